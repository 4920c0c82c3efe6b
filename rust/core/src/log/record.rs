//! A message as it lies in the driver's store: `flags`, the event's length, the event, the payload.
//!
//! | part | bytes |
//! |---|---|
//! | flags | 1: bit 0 is set for a binary payload, the others are 0 |
//! | length of the event | 1 to 5, a varuint (LEB128, as in lib0) |
//! | event, payload | the rest |
//!
//! Records are read by later versions for as long as topics live: a new form takes another bit.

use crate::varuint;

const BINARY: u8 = 1;

/// One message, borrowed from its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub event: &'a str,
    pub payload: &'a [u8],
    pub binary: bool,
}

impl<'a> Record<'a> {
    /// Appends the record.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.event.len() + self.payload.len() + 6);
        out.push(if self.binary { BINARY } else { 0 });
        varuint::write(out, self.event.len() as u64);
        out.extend_from_slice(self.event.as_bytes());
        out.extend_from_slice(self.payload);
    }

    /// Reads a record back; None for bytes that are none.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let (&flags, rest) = bytes.split_first()?;
        if flags & !BINARY != 0 {
            return None;
        }
        let (length, taken) = varuint::read(rest).ok()?;
        let rest = rest.get(taken..)?;
        let (event, payload) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        Some(Self {
            event: std::str::from_utf8(event).ok()?,
            payload,
            binary: flags & BINARY != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let long = "é".repeat(300);
        for (event, payload, binary) in [
            ("said", &b"{}"[..], false),
            ("", b"", true),
            (&long, b"\x00\xff", true),
        ] {
            let record = Record {
                event,
                payload,
                binary,
            };
            let mut bytes = Vec::new();
            record.write(&mut bytes);
            assert_eq!(Record::read(&bytes), Some(record));
        }
    }

    #[test]
    fn bytes_that_are_no_record_are_none() {
        for bytes in [
            &b""[..],
            b"\x00",
            b"\x02\x00",
            b"\x00\x05abc",
            b"\x00\x01\xff",
            b"\x00\xff",
        ] {
            assert_eq!(Record::read(bytes), None, "{bytes:?}");
        }
    }
}
