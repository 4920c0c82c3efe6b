//! Where a client stands, as the `id` of an event and as the `Last-Event-ID` it comes back with.
//!
//! For one topic it is `epoch.offset`. For several it is `check:place,place,..` in the order of the
//! stream's topics, a place being `epoch.offset`, `.offset` (the epoch of the place before) or `-`
//! for a topic that has none. The check is of the topics' names: a client that comes back with
//! the topics in another order would otherwise be given what it has not missed, and not what it has.
//!
//! Each position has exactly one spelling, and nothing else is read.

use crate::log::Position;

/// What a stream ends with when all its topics closed in good order. Who comes back with it is told
/// not to.
pub const CLOSED: &str = "closed";

/// A text that is no place on these topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadId;

/// What an id of several topics begins with: FNV-1a of their names (which hold no NUL), 32 bits.
pub fn check<'a>(topics: impl IntoIterator<Item = &'a str>) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    for topic in topics {
        for byte in topic.bytes().chain([0]) {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }
    hash
}

/// Appends the id of a stream of one topic.
pub fn write_one(out: &mut Vec<u8>, position: Position) {
    write_number(out, position.epoch);
    out.push(b'.');
    write_number(out, position.offset);
}

/// Appends the id of a stream of several topics.
pub fn write_many(out: &mut Vec<u8>, check: u32, positions: &[Option<Position>]) {
    out.extend_from_slice(format!("{check:08x}").as_bytes());
    let mut epoch = None;
    for (at, position) in positions.iter().enumerate() {
        out.push(if at == 0 { b':' } else { b',' });
        match position {
            None => out.push(b'-'),
            Some(position) if epoch == Some(position.epoch) => {
                out.push(b'.');
                write_number(out, position.offset);
            }
            Some(position) => {
                write_one(out, *position);
                epoch = Some(position.epoch);
            }
        }
    }
}

/// Appends the id of a stream of these topics; nothing when it has no position on any of them.
pub fn write(out: &mut Vec<u8>, check: u32, positions: &[Option<Position>]) {
    match positions {
        [] => {}
        [one] => {
            if let Some(position) = one {
                write_one(out, *position);
            }
        }
        many => write_many(out, check, many),
    }
}

/// Reads an id of a stream of `topics` topics.
///
/// # Errors
/// [`BadId`] for anything that [`write`] does not write for these topics.
pub fn read(id: &str, check: u32, topics: usize) -> Result<Vec<Option<Position>>, BadId> {
    if topics == 1 {
        let (epoch, offset) = id.split_once('.').ok_or(BadId)?;
        let (epoch, offset) = (number(epoch)?, number(offset)?);
        return Ok(vec![Some(Position { epoch, offset })]);
    }
    let (known, places) = id.split_once(':').ok_or(BadId)?;
    if known != format!("{check:08x}") {
        return Err(BadId);
    }
    let mut positions = Vec::with_capacity(topics.min(places.len()));
    let mut before = None;
    for place in places.split(',') {
        if positions.len() == topics {
            return Err(BadId);
        }
        positions.push(match place.split_once('.') {
            None if place == "-" => None,
            None => return Err(BadId),
            Some(("", offset)) => Some(Position {
                epoch: before.ok_or(BadId)?,
                offset: number(offset)?,
            }),
            Some((epoch, offset)) => {
                let (epoch, offset) = (number(epoch)?, number(offset)?);
                if before.replace(epoch) == Some(epoch) {
                    return Err(BadId);
                }
                Some(Position { epoch, offset })
            }
        });
    }
    if positions.len() < topics {
        return Err(BadId);
    }
    Ok(positions)
}

/// A number as it is written here: decimal, without a sign or a leading zero.
fn number(text: &str) -> Result<u64, BadId> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || (text.len() > 1 && text.starts_with('0')) {
        return Err(BadId);
    }
    text.parse().map_err(|_| BadId)
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b"0123456789"[usize::try_from(rest % 10).unwrap_or(0)];
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(check: u32, positions: &[Option<Position>]) -> String {
        let mut out = Vec::new();
        write(&mut out, check, positions);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_id_comes_back_as_the_positions_it_was_written_from() {
        let at = |epoch, offset| Some(Position { epoch, offset });
        let largest = at(u64::MAX, u64::MAX);
        for (positions, text) in [
            (&[at(7, 0)][..], "7.0"),
            (&[largest], "18446744073709551615.18446744073709551615"),
            (&[at(7, 1), at(7, 2)], "0000002a:7.1,.2"),
            (&[at(7, 1), None, at(7, 2)], "0000002a:7.1,-,.2"),
            (
                &[None, at(7, 1), at(8, 2), at(7, 3)],
                "0000002a:-,7.1,8.2,7.3",
            ),
            (&[None, None], "0000002a:-,-"),
        ] {
            assert_eq!(written(42, positions), text);
            assert_eq!(read(text, 42, positions.len()).as_deref(), Ok(positions));
        }
    }

    #[test]
    fn nothing_else_is_an_id() {
        for (text, topics) in [
            ("", 1),
            ("7", 1),
            ("7.", 1),
            (".7", 1),
            ("7.01", 1),
            ("+7.1", 1),
            ("7.1 ", 1),
            ("7.18446744073709551616", 1),
            ("7.1.1", 1),
            ("0000002a:7.1", 1),
            (CLOSED, 1),
            (CLOSED, 2),
            ("", 2),
            ("7.1,.2", 2),
            ("0000002b:7.1,.2", 2),
            ("2a:7.1,.2", 2),
            ("0000002a:7.1", 2),
            ("0000002a:7.1,.2,.3", 2),
            ("0000002a:.1,7.2", 2),
            ("0000002a:7.1,7.2", 2),
            ("0000002a:-,.2", 2),
            ("0000002a:--,7.2", 2),
            ("0000002A:7.1,.2", 2),
        ] {
            assert_eq!(read(text, 42, topics), Err(BadId), "{text:?}");
        }
    }

    #[test]
    fn topics_in_another_order_have_another_check() {
        assert_ne!(check(["a", "b"]), check(["b", "a"]));
        assert_ne!(check(["ab", "c"]), check(["a", "bc"]));
    }
}
