//! At most so many messages in so much time, spread or at once.

/// The rule: GCRA, the same that channels in Python are held to (`moda.wire.conversation`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    pub count: u32,
    pub seconds: f64,
}

/// One sender's account: when, in milliseconds, it would be even with its rate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Account(f64);

impl Rate {
    /// Whether a message may pass now; counts it if so.
    pub fn admits(&self, account: &mut Account, now_ms: u64) -> bool {
        #[allow(clippy::cast_precision_loss)] // exact for 285,000 years
        let now = now_ms as f64;
        let window = self.seconds * 1000.0;
        let each = window / f64::from(self.count);
        let due = account.0.max(now);
        // A count that does not divide the period leaves a rest in the last digit.
        if due - now > window - each + 1e-6 {
            return false;
        }
        account.0 = due + each;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_it_says_pass_at_once_and_then_one_at_a_time() {
        let rate = Rate {
            count: 4,
            seconds: 1.0,
        };
        let mut account = Account::default();
        let passed =
            |account: &mut Account, now| (0..10).filter(|_| rate.admits(account, now)).count();
        assert_eq!(passed(&mut account, 5_000), 4);
        assert_eq!(passed(&mut account, 5_249), 0);
        assert_eq!(passed(&mut account, 5_250), 1);
        assert_eq!(passed(&mut account, 5_760), 2);
        assert_eq!(passed(&mut account, 99_000), 4);
    }

    #[test]
    fn a_rate_of_one_is_one_per_period() {
        let rate = Rate {
            count: 1,
            seconds: 60.0,
        };
        let mut account = Account::default();
        let passes: Vec<_> = [0, 1, 59_999, 60_000, 60_001]
            .map(|now| rate.admits(&mut account, now))
            .into();
        assert_eq!(passes, [true, false, false, true, false]);
    }
}
