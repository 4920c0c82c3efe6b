//! The fuzz corpus, replayed: what a fuzzer has once found stays found, on any toolchain.
//!
//! The corpus and the checks live with the fuzz targets; see `rust/fuzz/src/checks`.

#[path = "../../fuzz/src/checks/mod.rs"]
mod checks;

use std::fs;
use std::path::Path;

/// Runs `check` on every file of the target's corpus, saying which one broke it.
fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut seen = 0;
    for file in files {
        let path = file.expect("a readable folder").path();
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let outcome = std::panic::catch_unwind(|| check(&bytes));
        assert!(outcome.is_ok(), "{} breaks {target}", path.display());
        seen += 1;
    }
    assert!(seen >= 10, "only {seen} files in {}", folder.display());
}

#[test]
fn every_text_frame_of_the_corpus_obeys_the_rule() {
    replay("frame_text", checks::frame_text);
}

#[test]
fn every_binary_frame_of_the_corpus_obeys_the_rule() {
    replay("frame_binary", checks::frame_binary);
}

#[test]
fn every_integer_of_the_corpus_obeys_the_rule() {
    replay("varuint", checks::varuint);
}

#[test]
fn every_frame_sequence_of_the_corpus_obeys_the_rule() {
    replay("websocket", checks::websocket);
}

#[test]
fn every_upstream_frame_of_the_corpus_obeys_the_rule() {
    replay("feed", checks::feed);
}

#[test]
fn every_head_of_the_corpus_obeys_the_rule() {
    replay("head", checks::head);
}

#[test]
fn every_last_event_id_of_the_corpus_obeys_the_rule() {
    replay("event_id", checks::event_id);
}

#[test]
fn the_golden_frames_obey_the_rules_too() {
    let text = include_str!("../../../tests/vectors.json");
    let list: Vec<serde_json::Value> = serde_json::from_str(text).expect("a JSON list");
    for entry in &list {
        let frame = entry["frame"].as_str().expect("frame");
        if entry["encoding"] == "text" {
            checks::frame_text(frame.as_bytes());
            checks::feed(frame.as_bytes());
        }
    }
}
