//! Platforms of images: operating system, architecture, and variant.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

/// A platform, as `linux/arm64` or `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Platform {
    os: String,
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

/// The text is not a platform.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected OS/ARCHITECTURE, such as linux/amd64 or linux/arm/v7")]
pub struct PlatformError;

impl Platform {
    /// Whether an image for this platform is one for `wanted`. A variant counts only if it is wanted.
    pub(crate) fn serves(&self, wanted: &Self) -> bool {
        // arm64 has one variant, which most images leave out.
        let variant = |it: &Self| {
            let default = (it.architecture == "arm64").then(|| "v8".to_owned());
            it.variant.clone().filter(|it| !it.is_empty()).or(default)
        };
        let variant = wanted.variant.is_none() || variant(self) == variant(wanted);
        self.os == wanted.os && self.architecture == wanted.architecture && variant
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |it: &&str| {
            let letters =
                |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || b"._-".contains(&it);
            !it.is_empty() && it.len() <= 32 && it.bytes().all(letters)
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(plain) {
            return Err(PlatformError);
        }
        let (os, architecture, variant) = match parts.as_slice() {
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some((*variant).to_owned())),
            _ => return Err(PlatformError),
        };
        Ok(Self {
            os: (*os).to_owned(),
            architecture: (*architecture).to_owned(),
            variant,
        })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_compared_by_what_is_wanted() {
        for (has, wanted, serves) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/arm64", false),
            ("windows/amd64", "linux/amd64", false),
            ("linux/arm/v7", "linux/arm", true),
            ("linux/arm/v7", "linux/arm/v6", false),
            ("linux/arm", "linux/arm/v7", false),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
        ] {
            let [has, wanted]: [Platform; 2] = [has, wanted].map(|it| it.parse().unwrap());
            assert_eq!(has.serves(&wanted), serves, "{has} {wanted}");
        }
        for wrong in [
            "",
            "linux",
            "linux/",
            "linux/a/b/c",
            "Linux/amd64",
            "linux/amd 64",
        ] {
            assert_eq!(wrong.parse::<Platform>(), Err(PlatformError), "{wrong}");
        }
    }
}
