//! What clients have sent and nobody has handled yet: joins that are undecided, messages that wait
//! for a join or for a handler.
//!
//! One budget per connection and one for the process hold all of it, and a message that does not
//! fit is refused before its payload is copied. A budget per channel alone is none: a connection
//! has a hundred channels, and 100 that waited with 8 MB each took 839 MB in 1.3 seconds.
//!
//! The process's budget is shared by a dynamic threshold (Choudhury and Hahne, "Dynamic Queue
//! Length Thresholds for Shared-Memory Packet Switches", 1998): a connection may hold as much as is
//! still free. One greedy connection gets half of it at most, and n of them leave one part in n + 1
//! to everybody else, so that strangers are not refused because somebody fills the memory.

use std::collections::HashMap;

use crate::hub::ConnKey;

/// Bytes charged for a message beside its event, payload and ref: the objects that carry them.
const OVERHEAD: usize = 256;

/// What a message counts for while it waits.
pub(crate) fn size_of(event: &str, payload: usize, reference: &str) -> usize {
    OVERHEAD + event.len() + payload + reference.len()
}

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub struct InwardLimits {
    /// Messages of one channel.
    pub messages: u32,
    /// Bytes of one connection. A message larger than this is taken when nothing else waits.
    pub connection: usize,
    /// Bytes of all connections.
    pub process: usize,
}

impl Default for InwardLimits {
    fn default() -> Self {
        Self {
            messages: 1000,
            connection: 8 << 20,
            process: 256 << 20,
        }
    }
}

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Too many messages wait for the channel.
    Channel,
    Connection,
    Process,
    /// Too many joins wait behind the one that is being decided.
    Joins,
}

impl Full {
    pub const ALL: [Self; 4] = [Self::Channel, Self::Connection, Self::Process, Self::Joins];

    /// A stable word for a metrics label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Connection => "connection",
            Self::Process => "process",
            Self::Joins => "joins",
        }
    }
}

/// What waits for one subscription.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Waiting {
    messages: u32,
    bytes: usize,
}

/// What waits for all of them.
#[derive(Debug, Default)]
pub struct Inward {
    pub limits: InwardLimits,
    total: usize,
    /// Connections that have anything waiting; the others are not in it.
    conns: HashMap<ConnKey, usize>,
    refused: [u64; 4],
}

impl Inward {
    /// Bytes that wait in the whole process.
    pub fn bytes(&self) -> usize {
        self.total
    }

    /// How often something was not taken for this reason.
    pub fn refused(&self, why: Full) -> u64 {
        self.refused[why as usize]
    }

    pub(crate) fn refuse(&mut self, why: Full) {
        self.refused[why as usize] += 1;
    }

    /// Charges a message to its channel, connection and process if it fits everywhere; counts it
    /// as refused if it does not.
    pub(crate) fn admit(
        &mut self,
        conn: ConnKey,
        waiting: &mut Waiting,
        size: usize,
    ) -> Result<(), Full> {
        if let Some(full) = self.full_for(conn, *waiting, size) {
            self.refuse(full);
            return Err(full);
        }
        self.charge(conn, waiting, size);
        Ok(())
    }

    /// What a message does not fit into; None when it fits everywhere.
    pub(crate) fn full_for(&self, conn: ConnKey, waiting: Waiting, size: usize) -> Option<Full> {
        let held = self.conns.get(&conn).copied().unwrap_or(0);
        let free = self.limits.process.saturating_sub(self.total);
        if waiting.messages >= self.limits.messages {
            Some(Full::Channel)
        } else if held > 0 && held + size > self.limits.connection {
            Some(Full::Connection)
        } else if self.total > 0 && held + size > free {
            Some(Full::Process)
        } else {
            None
        }
    }

    /// As [`Inward::admit`] for a join's own payload, which is no message of the channel.
    pub(crate) fn admit_join(&mut self, conn: ConnKey, size: usize) -> Result<Waiting, Full> {
        let mut waiting = Waiting::default();
        self.admit(conn, &mut waiting, size)?;
        waiting.messages = 0;
        Ok(waiting)
    }

    /// Charges what has been admitted already, or must be taken.
    pub(crate) fn charge(&mut self, conn: ConnKey, waiting: &mut Waiting, size: usize) {
        waiting.messages += 1;
        waiting.bytes += size;
        self.total += size;
        *self.conns.entry(conn).or_default() += size;
    }

    /// A message waits no longer.
    pub(crate) fn release(&mut self, conn: ConnKey, waiting: &mut Waiting, size: usize) {
        let size = size.min(waiting.bytes);
        waiting.messages = waiting.messages.saturating_sub(1);
        waiting.bytes -= size;
        self.give_back(conn, size);
    }

    /// Nothing waits for the channel any more.
    pub(crate) fn forget(&mut self, conn: ConnKey, waiting: Waiting) {
        self.give_back(conn, waiting.bytes);
    }

    /// Nothing waits for any channel of the connection any more.
    pub(crate) fn forget_all(&mut self, conn: ConnKey) {
        if let Some(held) = self.conns.remove(&conn) {
            self.total -= held;
        }
    }

    fn give_back(&mut self, conn: ConnKey, size: usize) {
        if let Some(held) = self.conns.get_mut(&conn) {
            let size = size.min(*held);
            *held -= size;
            self.total -= size;
            if *held == 0 {
                self.conns.remove(&conn);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slotmap::SlotMap;

    fn inward(connection: usize, process: usize) -> (Inward, [ConnKey; 4]) {
        let mut keys: SlotMap<ConnKey, ()> = SlotMap::with_key();
        let keys = [(); 4].map(|()| keys.insert(()));
        let limits = InwardLimits {
            messages: 1000,
            connection,
            process,
        };
        let inward = Inward {
            limits,
            ..Inward::default()
        };
        (inward, keys)
    }

    fn fill(inward: &mut Inward, conn: ConnKey) -> Waiting {
        let mut waiting = Waiting::default();
        while inward.admit(conn, &mut waiting, 10).is_ok() {}
        waiting
    }

    #[test]
    fn those_who_fill_the_process_leave_a_share_to_who_comes_after_them() {
        let (mut inward, keys) = inward(10_000, 1000);
        assert_eq!(fill(&mut inward, keys[0]).bytes, 500);
        assert_eq!(fill(&mut inward, keys[1]).bytes, 250);
        assert_eq!(fill(&mut inward, keys[2]).bytes, 130);
        assert_eq!(inward.refused(Full::Process), 3);
        assert!(inward.admit(keys[3], &mut Waiting::default(), 60).is_ok());
    }

    #[test]
    fn a_connection_has_its_own_bound_and_one_large_message_past_it_when_nothing_waits() {
        let (mut inward, keys) = inward(100, 1000);
        let mut waiting = Waiting::default();
        assert!(inward.admit(keys[0], &mut waiting, 300).is_ok());
        assert_eq!(
            inward.admit(keys[0], &mut waiting, 1),
            Err(Full::Connection)
        );
        inward.release(keys[0], &mut waiting, 300);
        assert_eq!(fill(&mut inward, keys[0]).bytes, 100);
    }

    #[test]
    fn what_is_given_back_leaves_nothing_behind() {
        let (mut inward, keys) = inward(100, 1000);
        let waiting = fill(&mut inward, keys[0]);
        fill(&mut inward, keys[1]);
        inward.forget(keys[0], waiting);
        inward.forget_all(keys[1]);
        inward.forget_all(keys[1]);
        assert_eq!((inward.bytes(), inward.conns.len()), (0, 0));
    }
}
