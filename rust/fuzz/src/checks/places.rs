//! The id that an event stream's reader comes back with.

use moda_core::dialect::sse::id::{read, write, BadId};
use moda_core::log::Position;

/// The first byte says how many topics there are and whether the check is theirs; the rest is the id.
pub fn event_id(data: &[u8]) {
    let Some((first, id)) = data.split_first() else {
        return;
    };
    let topics = usize::from(first % 8) + 1;
    let check = if first & 8 == 0 { 0x0123_4567 } else { 0 };
    let Ok(id) = std::str::from_utf8(id) else {
        return;
    };
    let outcome = read(id, check, topics);
    assert_eq!(outcome, model(id, check, topics));
    if let Ok(positions) = outcome {
        assert_eq!(positions.len(), topics);
        let mut again = Vec::new();
        write(&mut again, check, &positions);
        assert_eq!(again, id.as_bytes());
    }
}

/// By the shape of the whole: every place is spelt out, and the text must be the one they give.
fn model(id: &str, check: u32, topics: usize) -> Result<Vec<Option<Position>>, BadId> {
    let places = match topics {
        1 => id,
        _ => id.get(9..).ok_or(BadId)?,
    };
    let mut epoch = String::new();
    let mut positions = Vec::new();
    for place in places.split(',') {
        if place == "-" && topics > 1 {
            positions.push(None);
            continue;
        }
        let (own, offset) = place.split_once('.').ok_or(BadId)?;
        if !own.is_empty() {
            own.clone_into(&mut epoch);
        }
        let number = |text: &str| text.parse::<u64>().map_err(|_| BadId);
        positions.push(Some(Position {
            epoch: number(&epoch)?,
            offset: number(offset)?,
        }));
    }
    if positions.len() != topics {
        return Err(BadId);
    }
    let mut whole = Vec::new();
    write(&mut whole, check, &positions);
    if whole == id.as_bytes() {
        Ok(positions)
    } else {
        Err(BadId)
    }
}
