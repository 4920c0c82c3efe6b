//! The command line: `moda-load COMMAND [--name VALUE ...]`, every option with a default.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

/// One option a command takes.
pub struct Flag {
    pub name: &'static str,
    pub default: &'static str,
    pub help: &'static str,
}

pub const fn flag(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        default,
        help,
    }
}

/// The values of one command's options.
pub struct Options {
    values: Vec<(&'static str, String)>,
}

impl Options {
    /// Reads `--name VALUE` and `--name=VALUE`.
    pub fn parse(flags: &[&Flag], words: &[String]) -> Result<Self, String> {
        let mut values: Vec<_> = flags
            .iter()
            .map(|flag| (flag.name, flag.default.to_owned()))
            .collect();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            let known = name
                .strip_prefix("--")
                .and_then(|name| values.iter_mut().find(|(known, _)| *known == name));
            let Some((_, slot)) = known else {
                return Err(format!(
                    "no such option: {name:?}, takes\n{}",
                    describe(flags)
                ));
            };
            *slot = value
                .or_else(|| words.next().cloned())
                .ok_or_else(|| format!("{name} needs a value"))?;
        }
        Ok(Self { values })
    }

    /// The text of an option.
    pub fn text(&self, name: &str) -> &str {
        let found = self.values.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// An option as a number.
    pub fn number<T: FromStr>(&self, name: &str) -> Result<T, String> {
        let text = self.text(name);
        text.parse()
            .map_err(|_| format!("--{name}: got {text:?}, takes a number"))
    }

    /// An option as a span of time, given in seconds.
    pub fn seconds(&self, name: &str) -> Result<Duration, String> {
        let text = self.text(name);
        let span = text
            .parse()
            .ok()
            .and_then(|span| Duration::try_from_secs_f64(span).ok());
        span.ok_or_else(|| format!("--{name}: got {text:?}, takes a number of seconds"))
    }

    /// An option that must be at least one.
    pub fn positive<T: FromStr + PartialOrd + From<u8>>(&self, name: &str) -> Result<T, String> {
        let number = self.number(name)?;
        if number < T::from(1) {
            return Err(format!(
                "--{name}: got {}, takes 1 or more",
                self.text(name)
            ));
        }
        Ok(number)
    }
}

/// One line per option, for help and for errors.
pub fn describe(flags: &[&Flag]) -> String {
    let mut text = String::new();
    for flag in flags {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  --{:<14} {} [{}]",
            flag.name, flag.help, flag.default
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[&Flag] = &[
        &flag("depth", "16", "how deep"),
        &flag("url", "ws://", "where"),
    ];

    fn parse(words: &[&str]) -> Result<Options, String> {
        Options::parse(
            FLAGS,
            &words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn an_option_is_its_default_until_given_in_either_form() {
        assert_eq!(parse(&[]).unwrap().number("depth"), Ok(16));
        assert_eq!(parse(&["--depth", "3"]).unwrap().number("depth"), Ok(3));
        assert_eq!(parse(&["--url=a=b"]).unwrap().text("url"), "a=b");
    }

    #[test]
    fn a_wrong_option_is_named_with_what_is_accepted() {
        let unknown = parse(&["--deep", "3"]).err().unwrap();
        assert!(
            unknown.contains("--deep") && unknown.contains("--depth"),
            "{unknown}"
        );
        let wordy = parse(&["--depth", "x"])
            .unwrap()
            .number::<u32>("depth")
            .unwrap_err();
        assert!(
            wordy.contains("--depth") && wordy.contains("\"x\""),
            "{wordy}"
        );
        let past = parse(&["--depth", "-1"])
            .unwrap()
            .seconds("depth")
            .unwrap_err();
        assert!(
            past.contains("--depth") && past.contains("seconds"),
            "{past}"
        );
        assert!(parse(&["--depth", "0"])
            .unwrap()
            .positive::<u32>("depth")
            .is_err());
        assert!(parse(&["--depth"]).err().unwrap().contains("needs a value"));
    }
}
