//! `phx_ref`: what tells one meta from all others, here and elsewhere, now and after a restart.
//!
//! Phoenix makes it of a time, a process and a counter. A client compares the state it is given when
//! it comes back with what it knew, by these alone, so none may ever be given twice for a topic.

use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::Engine as _;

/// Sixteen characters for twelve bytes: the low six of a replica's number (microseconds of the clock
/// at its start: nine years until they repeat), and six of a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference(Box<str>);

impl Reference {
    pub fn new(replica: u64, number: u64) -> Self {
        let mut bytes = [0; 12];
        bytes[..6].copy_from_slice(&replica.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&number.to_be_bytes()[2..]);
        Self(URL_SAFE_NO_PAD.encode(bytes).into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_sixteen_characters_that_no_other_replica_and_no_other_number_has() {
        let given: Vec<_> = [(1, 1), (1, 2), (2, 1), (1 << 40, 1), (1, 1 << 40)]
            .iter()
            .map(|(replica, number)| Reference::new(*replica, *number))
            .collect();
        for (at, reference) in given.iter().enumerate() {
            assert_eq!(reference.as_str().len(), 16);
            assert!(!given[..at].contains(reference));
        }
    }
}
