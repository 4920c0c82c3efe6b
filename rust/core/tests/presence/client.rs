//! What a client makes of presence messages: `syncState` and `syncDiff` of phoenix.js, in its words.

use std::collections::BTreeMap;

use serde_json::Value;

/// References of the metas under every key.
pub type Copy = BTreeMap<String, Vec<String>>;

fn metas(of: &Value) -> Vec<String> {
    let metas = of["metas"].as_array().expect("metas");
    let reference = |meta: &Value| meta["phx_ref"].as_str().expect("a phx_ref").to_owned();
    metas.iter().map(reference).collect()
}

/// The state a server sends, by its references, each key's sorted.
pub fn copy_of(state: &Value) -> Copy {
    let entries = state.as_object().expect("an object").iter();
    entries
        .map(|(key, of)| {
            let mut metas = metas(of);
            metas.sort();
            (key.clone(), metas)
        })
        .collect()
}

/// A client's copy; diffs before its first state wait, as in `Presence`.
#[derive(Debug, Default)]
pub struct Client {
    copy: Copy,
    synced: bool,
    waiting: Vec<Value>,
}

impl Client {
    pub fn hears(&mut self, event: &str, payload: &Value) {
        match event {
            "presence_state" => {
                self.copy = copy_of(payload);
                self.synced = true;
                for diff in std::mem::take(&mut self.waiting) {
                    self.merge(&diff);
                }
            }
            "presence_diff" if self.synced => self.merge(payload),
            "presence_diff" => self.waiting.push(payload.clone()),
            _ => {}
        }
    }

    fn merge(&mut self, diff: &Value) {
        for (key, joined) in diff["joins"].as_object().expect("joins") {
            let joined = metas(joined);
            let known = self.copy.entry(key.clone()).or_default();
            known.retain(|meta| !joined.contains(meta));
            known.extend(joined);
        }
        for (key, left) in diff["leaves"].as_object().expect("leaves") {
            let left = metas(left);
            if let Some(known) = self.copy.get_mut(key) {
                known.retain(|meta| !left.contains(meta));
                if known.is_empty() {
                    self.copy.remove(key);
                }
            }
        }
    }

    /// Its copy, each key's metas sorted.
    pub fn sees(&self) -> Copy {
        let mut copy = self.copy.clone();
        for metas in copy.values_mut() {
            metas.sort();
        }
        copy
    }
}
