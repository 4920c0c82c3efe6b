//! What the fuzz targets share: the checks, with nothing of a fuzzer in them.

pub mod checks;
