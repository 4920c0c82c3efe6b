//! A slow and obvious hub: what each connection is owed, decided at the moment of publishing.
//!
//! No log, no runs, no slices, no outbox: a publish walks the members and appends to each one's
//! list. Heartbeat answers are listed apart, since they may overtake broadcasts (and nothing else may).

use std::collections::BTreeMap;

use moda_core::hub::{Codec, ConnKey, SubKey};

use crate::frames::{text, Frame};
use crate::world::as_spoken;

#[derive(Debug, Default)]
pub struct Owed {
    pub ordered: Vec<Frame>,
    pub beats: Vec<Frame>,
}

struct Client {
    codec: Codec,
    open: bool,
    owed: Owed,
}

pub struct Member {
    pub sub: SubKey,
    pub conn: ConnKey,
    pub watches: bool,
}

#[derive(Default)]
pub struct Oracle {
    clients: BTreeMap<ConnKey, Client>,
    topics: BTreeMap<&'static str, Vec<Member>>,
    pub deliveries: u64,
}

impl Oracle {
    pub fn open(&mut self, conn: ConnKey, codec: Codec) {
        let client = Client {
            codec,
            open: true,
            owed: Owed::default(),
        };
        self.clients.insert(conn, client);
    }

    pub fn is_open(&self, conn: ConnKey) -> bool {
        self.clients.get(&conn).is_some_and(|client| client.open)
    }

    pub fn place(&self, conn: ConnKey, topic: &str) -> Option<SubKey> {
        let members = self.topics.get(topic)?;
        let member = members.iter().find(|member| member.conn == conn)?;
        Some(member.sub)
    }

    pub fn join(&mut self, topic: &'static str, member: Member) {
        self.topics.entry(topic).or_default().push(member);
    }

    pub fn leave(&mut self, topic: &str, conn: ConnKey) {
        if let Some(members) = self.topics.get_mut(topic) {
            members.retain(|member| member.conn != conn);
        }
        self.topics.retain(|_, members| !members.is_empty());
    }

    pub fn members(&self, address: &str) -> usize {
        self.topics.get(address).map_or(0, Vec::len)
    }

    pub fn topics(&self) -> usize {
        self.topics.len()
    }

    /// Who intercepts the message; everybody else on the topic but its sender is owed it.
    pub fn publish(
        &mut self,
        topic: &str,
        said: &str,
        secret: bool,
        exclude: Option<SubKey>,
    ) -> Vec<SubKey> {
        let mut asked = Vec::new();
        for member in self.topics.get(topic).into_iter().flatten() {
            if exclude == Some(member.sub) {
                continue;
            }
            if secret && member.watches {
                asked.push(member.sub);
                continue;
            }
            let client = self
                .clients
                .get_mut(&member.conn)
                .expect("a member's client");
            let spoken = as_spoken(client.codec, said);
            client.owed.ordered.push(text(spoken));
            self.deliveries += 1;
        }
        asked
    }

    pub fn tell(&mut self, conn: ConnKey, said: &str) {
        if let Some(client) = self.clients.get_mut(&conn).filter(|client| client.open) {
            client.owed.ordered.push(text(said));
        }
    }

    pub fn beat(&mut self, conn: ConnKey, said: &str) {
        if let Some(client) = self.clients.get_mut(&conn).filter(|client| client.open) {
            client.owed.beats.push(text(said));
        }
    }

    pub fn close(&mut self, conn: ConnKey, code: u16, reason: &str) {
        if let Some(client) = self.clients.get_mut(&conn).filter(|client| client.open) {
            client.open = false;
            let close = Frame::Close(code, reason.to_owned());
            client.owed.ordered.push(close);
            self.drop_places(conn);
        }
    }

    pub fn remove(&mut self, conn: ConnKey) -> Option<Owed> {
        self.drop_places(conn);
        Some(self.clients.remove(&conn)?.owed)
    }

    fn drop_places(&mut self, conn: ConnKey) {
        for members in self.topics.values_mut() {
            members.retain(|member| member.conn != conn);
        }
        self.topics.retain(|_, members| !members.is_empty());
    }
}
