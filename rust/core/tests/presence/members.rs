//! The set by itself.

use moda_core::handler::presence::{Denied, Members, Reference};
use moda_core::hub::SubKey;
use proptest::prelude::*;
use serde_json::{json, Value};
use slotmap::SlotMap;

use super::client::{copy_of, Client};

/// The members and somebody who tracks.
struct World {
    members: Members,
    subs: Vec<SubKey>,
    given: u64,
}

impl World {
    fn new(subs: usize) -> Self {
        let mut keys: SlotMap<SubKey, ()> = SlotMap::with_key();
        Self {
            members: Members::default(),
            subs: (0..subs).map(|_| keys.insert(())).collect(),
            given: 0,
        }
    }

    fn reference(&mut self) -> Reference {
        self.given += 1;
        Reference::new(7, self.given)
    }

    fn track(&mut self, sub: usize, key: &str, meta: &str) -> Result<(), Denied> {
        let reference = self.reference();
        self.members
            .track(self.subs[sub], key, meta.as_bytes(), reference)
    }

    fn update(&mut self, sub: usize, key: &str, meta: &str) -> Result<(), Denied> {
        let reference = self.reference();
        self.members
            .update(self.subs[sub], key, meta.as_bytes(), reference)
    }

    fn state(&mut self) -> Value {
        serde_json::from_slice(self.members.state()).unwrap()
    }

    fn diff(&mut self) -> Option<Value> {
        let diff = self.members.take_diff()?;
        Some(serde_json::from_slice(&diff).unwrap())
    }
}

fn reference(number: u64) -> String {
    Reference::new(7, number).as_str().to_owned()
}

#[test]
fn a_track_is_a_join_with_a_reference_and_an_untrack_the_same_meta_leaving() {
    let mut world = World::new(1);
    world.track(0, "ann", r#"{"device":"phone"}"#).unwrap();
    let meta = json!({"device": "phone", "phx_ref": reference(1)});
    let whole = json!({"ann": {"metas": [meta]}});
    assert_eq!(world.state(), whole);
    assert_eq!(world.diff(), Some(json!({"joins": whole, "leaves": {}})));
    assert_eq!(world.diff(), None);
    world.members.untrack(world.subs[0], "ann");
    assert_eq!(world.diff(), Some(json!({"joins": {}, "leaves": whole})));
    assert_eq!(world.state(), json!({}));
    assert!(world.members.is_empty());
}

#[test]
fn an_update_is_one_diff_with_the_new_meta_and_the_old() {
    let mut world = World::new(1);
    world.track(0, "ann", r#"{"typing":false}"#).unwrap();
    world.diff();
    world.update(0, "ann", r#"{"typing":true}"#).unwrap();
    let new = json!({"typing": true, "phx_ref": reference(2), "phx_ref_prev": reference(1)});
    let old = json!({"typing": false, "phx_ref": reference(1)});
    assert_eq!(
        world.diff(),
        Some(json!({"joins": {"ann": {"metas": [new]}}, "leaves": {"ann": {"metas": [old]}}}))
    );
}

#[test]
fn updates_between_two_diffs_name_the_reference_that_the_others_know() {
    let mut world = World::new(1);
    world.track(0, "ann", "{}").unwrap();
    world.update(0, "ann", r#"{"n":1}"#).unwrap();
    let first = json!({"n": 1, "phx_ref": reference(2)});
    assert_eq!(
        world.diff().unwrap()["joins"]["ann"]["metas"],
        json!([first])
    );
    world.update(0, "ann", r#"{"n":2}"#).unwrap();
    world.update(0, "ann", r#"{"n":3}"#).unwrap();
    let diff = world.diff().unwrap();
    let last = json!({"n": 3, "phx_ref": reference(4), "phx_ref_prev": reference(2)});
    assert_eq!(diff["joins"]["ann"]["metas"], json!([last]));
    assert_eq!(diff["leaves"]["ann"]["metas"], json!([first]));
}

#[test]
fn one_key_has_a_meta_for_each_subscription_that_is_tracked_under_it() {
    let mut world = World::new(2);
    world.track(0, "ann", r#"{"tab":1}"#).unwrap();
    world.track(1, "ann", r#"{"tab":2}"#).unwrap();
    assert_eq!(world.state()["ann"]["metas"].as_array().unwrap().len(), 2);
    assert_eq!(world.members.len(), 1);
    world.members.forget(world.subs[0]);
    assert_eq!(world.state()["ann"]["metas"][0]["tab"], 2);
}

#[test]
fn a_second_track_of_the_same_is_already_tracked_and_an_update_of_none_has_no_presence() {
    let mut world = World::new(2);
    world.track(0, "ann", "{}").unwrap();
    world.diff();
    assert_eq!(world.track(0, "ann", "{}"), Err(Denied::AlreadyTracked));
    assert_eq!(world.update(1, "ann", "{}"), Err(Denied::NoPresence));
    assert_eq!(world.update(0, "bob", "{}"), Err(Denied::NoPresence));
    assert_eq!(world.track(1, "bob", "[]"), Err(Denied::NoObject));
    world.members.untrack(world.subs[1], "ann");
    world.members.untrack(world.subs[1], "nobody");
    assert_eq!(world.diff(), None);
}

#[test]
fn who_comes_and_goes_between_two_diffs_is_told_to_nobody_but_those_who_saw_it() {
    let mut world = World::new(1);
    world.track(0, "ann", "{}").unwrap();
    world.members.forget(world.subs[0]);
    assert_eq!(world.diff(), None);
    world.track(0, "ann", "{}").unwrap();
    world.members.show();
    world.members.forget(world.subs[0]);
    let diff = world.diff().unwrap();
    assert_eq!(diff["joins"], json!({}));
    assert_eq!(diff["leaves"]["ann"]["metas"][0]["phx_ref"], reference(2));
}

#[test]
fn keys_are_any_text() {
    let keys = ["__proto__", "", "constructor", "\u{0}\n\"\\", "🦀é", "1"];
    let mut world = World::new(keys.len());
    for (sub, key) in keys.iter().enumerate() {
        world.track(sub, key, "{}").unwrap();
    }
    let (state, diff) = (world.state(), world.diff().unwrap());
    assert_eq!(state, diff["joins"]);
    let mut found: Vec<_> = state.as_object().unwrap().keys().collect();
    found.sort();
    let mut expected = keys.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[derive(Debug, Clone)]
enum Step {
    Track(usize, &'static str),
    Update(usize, &'static str),
    Untrack(usize, &'static str),
    Disconnect(usize),
    /// A client comes, for the first time or again.
    Join(usize),
    Diff,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || prop::sample::select(vec!["a", "b", "__proto__", ""]);
    let step = prop_oneof![
        4 => (0..5usize, key()).prop_map(|(sub, key)| Step::Track(sub, key)),
        2 => (0..5usize, key()).prop_map(|(sub, key)| Step::Update(sub, key)),
        2 => (0..5usize, key()).prop_map(|(sub, key)| Step::Untrack(sub, key)),
        2 => (0..5usize).prop_map(Step::Disconnect),
        2 => (0..3usize).prop_map(Step::Join),
        3 => Just(Step::Diff),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn after_every_diff_every_client_holds_the_servers_state(steps in steps()) {
        let mut world = World::new(5);
        let mut clients: Vec<Client> = Vec::new();
        for step in steps.into_iter().chain([Step::Diff]) {
            match step {
                Step::Track(sub, key) => drop(world.track(sub, key, "{}")),
                Step::Update(sub, key) => drop(world.update(sub, key, "{}")),
                Step::Untrack(sub, key) => world.members.untrack(world.subs[sub], key),
                Step::Disconnect(sub) => world.members.forget(world.subs[sub]),
                Step::Join(client) => {
                    let state = serde_json::from_slice(world.members.show()).unwrap();
                    if clients.len() <= client {
                        clients.push(Client::default());
                    }
                    let client = client.min(clients.len() - 1);
                    clients[client].hears("presence_state", &state);
                    prop_assert_eq!(clients[client].sees(), copy_of(&state));
                }
                Step::Diff => {
                    if let Some(diff) = world.diff() {
                        for client in &mut clients {
                            client.hears("presence_diff", &diff);
                        }
                    }
                    let whole = copy_of(&world.state());
                    for client in &clients {
                        prop_assert_eq!(client.sees(), whole.clone());
                    }
                }
            }
        }
    }
}
