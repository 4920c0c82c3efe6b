//! References of messages to a subscription that is not decided yet.
//!
//! When it comes to be, its driver answers them; when it does not, nobody else would.

/// What the references may take.
const BYTES: usize = 16 * 1024;

/// References, in their order, as their dialect writes them. Those past 16 KiB are not kept, and so
/// not answered.
#[derive(Debug, Default)]
pub struct Waiting {
    references: Vec<Box<str>>,
    bytes: usize,
}

impl Waiting {
    pub fn expect(&mut self, reference: &str) {
        let bytes = reference.len() + std::mem::size_of::<Box<str>>();
        if self.bytes + bytes <= BYTES {
            self.bytes += bytes;
            self.references.push(reference.into());
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.references.iter().map(|reference| &**reference)
    }
}
