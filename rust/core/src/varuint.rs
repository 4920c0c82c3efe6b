//! The variable-length unsigned integer of lib0, the encoding under every Yjs message.
//!
//! Seven bits per byte, least significant group first, high bit set while more bytes follow
//! (lib0 `encoding.writeVarUint`). The field stops at 2^53 - 1 because its writers are JavaScript; a value
//! past that is refused here instead of being rounded, as a JavaScript reader would do silently.
//!
//! Padding is legal on the wire: `80 80 00` is zero to every implementation in use. It is bounded
//! all the same, at the ten bytes a 64-bit reader takes, so that one integer costs constant time
//! however long the run of `80` a peer sends.

use std::fmt;

/// Largest value on the wire: the largest integer a JavaScript number holds exactly.
pub const MAX: u64 = (1 << 53) - 1;

/// Longest encoding read, padding included: what a 64-bit reader accepts.
pub const MAX_LEN: usize = 10;

/// Why the bytes are not an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VarUintError {
    /// The bytes ended while the high bit promised another one.
    Truncated,
    /// The value is greater than [`MAX`].
    OutOfRange,
    /// More than [`MAX_LEN`] bytes.
    TooLong,
}

impl VarUintError {
    /// A stable word for a metrics label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::OutOfRange => "out_of_range",
            Self::TooLong => "too_long",
        }
    }
}

impl fmt::Display for VarUintError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("integer cut short: the last byte promises another"),
            Self::OutOfRange => write!(f, "integer greater than {MAX}"),
            Self::TooLong => write!(f, "integer longer than {MAX_LEN} bytes"),
        }
    }
}

impl std::error::Error for VarUintError {}

/// Reads one integer from the front of `bytes`.
///
/// Returns the value and how many bytes it took.
///
/// # Errors
/// [`VarUintError`]: cut short, greater than [`MAX`], or longer than [`MAX_LEN`] bytes.
pub fn read(bytes: &[u8]) -> Result<(u64, usize), VarUintError> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(MAX_LEN).enumerate() {
        let group = u64::from(byte & 0x7f);
        // Ten groups reach bit 69: whatever falls at or above bit 53 is out of range, and the test
        // comes before the shift so that no bit is lost unseen.
        let shift = 7 * index;
        if group != 0 && (shift >= 53 || group > MAX >> shift) {
            return Err(VarUintError::OutOfRange);
        }
        if group != 0 {
            value |= group << shift;
        }
        if byte & 0x80 == 0 {
            return Ok((value, index + 1));
        }
    }
    if bytes.len() < MAX_LEN {
        Err(VarUintError::Truncated)
    } else {
        Err(VarUintError::TooLong)
    }
}

/// Appends the shortest encoding of `value`.
///
/// Takes any `u64` so that a caller needs no error path, but [`read`] and every JavaScript peer
/// refuse what is greater than [`MAX`]: keep to it.
pub fn write(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_encodings_are_read_with_their_length() {
        let table: &[(&[u8], u64, usize)] = &[
            (&[0x00], 0, 1),
            (&[0x7f], 127, 1),
            (&[0x80, 0x01], 128, 2),
            (&[0xff, 0x7f, 0xaa], 16_383, 2),
            (
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f],
                (1 << 53) - 1,
                8,
            ),
        ];
        for &(bytes, value, len) in table {
            assert_eq!(read(bytes), Ok((value, len)), "{bytes:02x?}");
        }
    }

    #[test]
    fn padding_is_accepted_up_to_ten_bytes() {
        assert_eq!(read(&[0x80, 0x80, 0x00]), Ok((0, 3)));
        let mut padded = [0x80u8; 10];
        padded[0] = 0x85;
        padded[9] = 0x00;
        assert_eq!(read(&padded), Ok((5, 10)));
        assert_eq!(read(&[0x80; 11]), Err(VarUintError::TooLong));
    }

    #[test]
    fn a_value_past_two_to_the_53_is_refused_wherever_its_bit_stands() {
        let first = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
        assert_eq!(read(&first), Err(VarUintError::OutOfRange));
        for index in 8..10 {
            let mut bytes = [0x80u8; 10];
            bytes[9] = 0;
            bytes[index] |= 1;
            assert_eq!(read(&bytes), Err(VarUintError::OutOfRange), "byte {index}");
        }
    }

    #[test]
    fn an_integer_cut_short_is_truncated() {
        for bytes in [&[][..], &[0x80], &[0xff, 0xff, 0xff]] {
            assert_eq!(read(bytes), Err(VarUintError::Truncated), "{bytes:02x?}");
        }
    }

    #[test]
    fn errors_say_what_was_wrong() {
        assert_eq!(
            VarUintError::OutOfRange.to_string(),
            "integer greater than 9007199254740991"
        );
        assert_eq!(VarUintError::Truncated.as_str(), "truncated");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in 0..=MAX, tail in proptest::collection::vec(any::<u8>(), 0..4)) {
            let mut bytes = Vec::new();
            write(&mut bytes, value);
            let len = bytes.len();
            prop_assert!(len <= 8);
            bytes.extend_from_slice(&tail);
            prop_assert_eq!(read(&bytes), Ok((value, len)));
        }

        #[test]
        fn every_proper_prefix_of_an_integer_is_truncated(value in 128..=MAX) {
            let mut bytes = Vec::new();
            write(&mut bytes, value);
            for cut in 0..bytes.len() {
                prop_assert_eq!(read(&bytes[..cut]), Err(VarUintError::Truncated));
            }
        }
    }
}
