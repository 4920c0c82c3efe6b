//! Latencies in constant memory.
//!
//! Log-linear buckets: each power of two is cut in 256, so a percentile is at most 0.4 % above the
//! true value whatever the range, and a minute of 300,000 answers a second takes no more room than
//! ten of them. The targets allow changes of 10 %, far coarser than that.

use serde_json::{json, Value};

const CUTS: u64 = 256;
const CUT_BITS: u32 = 8;

/// A histogram of durations in nanoseconds.
#[derive(Clone, Default)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

fn bucket(value: u64) -> usize {
    let bits = 64 - value.leading_zeros();
    let index = if bits <= CUT_BITS {
        value
    } else {
        let shift = bits - CUT_BITS - 1;
        // `value >> shift` lies in 256..512: its low eight bits are the cut, the shift its octave.
        u64::from(shift) * CUTS + (value >> shift)
    };
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// The largest value that falls into a bucket.
fn ceiling(index: usize) -> u64 {
    let index = index as u64;
    if index < 2 * CUTS {
        return index;
    }
    let shift = index / CUTS - 1;
    let cut = index % CUTS + CUTS;
    ((cut + 1) << shift) - 1
}

impl Histogram {
    pub fn record(&mut self, nanoseconds: u64) {
        let index = bucket(nanoseconds);
        if index >= self.buckets.len() {
            self.buckets.resize(index + 1, 0);
        }
        self.buckets[index] += 1;
        self.count += 1;
        self.max = self.max.max(nanoseconds);
    }

    /// The smallest recorded value that `per_mille` thousandths of all values do not exceed; 0 when
    /// nothing was recorded.
    pub fn percentile(&self, per_mille: u64) -> u64 {
        let rank = (self.count * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return ceiling(index).min(self.max);
            }
        }
        self.max
    }

    /// Count, median, p90, p99, p99.9 and maximum, in microseconds.
    pub fn summary(&self) -> Value {
        json!({
            "count": self.count,
            "p50": microseconds(self.percentile(500)),
            "p90": microseconds(self.percentile(900)),
            "p99": microseconds(self.percentile(990)),
            "p999": microseconds(self.percentile(999)),
            "max": microseconds(self.max),
        })
    }
}

/// Nanoseconds as microseconds with one decimal.
pub fn microseconds(nanoseconds: u64) -> f64 {
    // Tenths of a microsecond: exact in a double up to 28 years.
    #[allow(clippy::cast_precision_loss)]
    {
        ((nanoseconds + 50) / 100) as f64 / 10.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_whose_ceiling_is_at_most_one_part_in_256_above_it() {
        let mut value: u64 = 1;
        while value < 1 << 60 {
            for value in [value - 1, value, value + 1] {
                let top = ceiling(bucket(value));
                assert!(top >= value && top - value <= value / CUTS, "{value} {top}");
            }
            value = value * 3 / 2 + 1;
        }
    }

    #[test]
    fn buckets_rise_with_their_values() {
        let all: Vec<usize> = (0..10_000).map(bucket).collect();
        assert!(all.windows(2).all(|pair| pair[0] <= pair[1]));
    }

    #[test]
    fn percentiles_of_one_to_a_thousand_are_those_numbers_within_the_bucket_width() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|value| histogram.record(value));
        assert_eq!(histogram.count, 1000);
        assert_eq!(histogram.percentile(500), 500);
        assert_eq!(histogram.percentile(990), 991);
        assert_eq!(histogram.percentile(1000), 1000);
    }

    #[test]
    fn an_empty_histogram_says_zero() {
        assert_eq!(Histogram::default().percentile(990), 0);
    }
}
