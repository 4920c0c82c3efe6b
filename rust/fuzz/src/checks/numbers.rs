//! The lib0 integer.

use moda_core::varuint::{read, write, VarUintError, MAX, MAX_LEN};

/// Any bytes as an integer with something behind it.
pub fn varuint(data: &[u8]) {
    let outcome = read(data);
    assert_eq!(outcome, model(data));
    let Ok((value, len)) = outcome else {
        return;
    };
    let mut shortest = Vec::new();
    write(&mut shortest, value);
    assert!(shortest.len() <= len);
    assert_eq!(read(&shortest), Ok((value, shortest.len())));
    for cut in 0..len {
        assert_eq!(read(&data[..cut]), Err(VarUintError::Truncated));
    }
}

/// In 128 bits nothing overflows, and the question of range is one comparison.
fn model(data: &[u8]) -> Result<(u64, usize), VarUintError> {
    let mut value = 0u128;
    for (index, byte) in data.iter().enumerate() {
        if index == MAX_LEN {
            return Err(VarUintError::TooLong);
        }
        value += u128::from(byte % 128) << (7 * index);
        match u64::try_from(value) {
            Ok(small) if small <= MAX => {
                if *byte < 128 {
                    return Ok((small, index + 1));
                }
            }
            _ => return Err(VarUintError::OutOfRange),
        }
    }
    if data.len() == MAX_LEN {
        Err(VarUintError::TooLong)
    } else {
        Err(VarUintError::Truncated)
    }
}
