//! The meaning of a Secret: our content, a user's certificate, nothing, or nonsense.
//!
//! | key | what |
//! |---|---|
//! | `tls.crt`, `tls.key` | the leaf that is served, and its key |
//! | `ca.crt` | the bundle that clients trust: the authority that signs first, then the next and the previous one |
//! | `ca.key` | key of the authority that signs |
//! | `next-ca.crt`, `next-ca.key` | the next authority, while a rotation lasts |

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use imageswap_runtime::tls::{Authority, Certificate, Pair, verify};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

const LEAF: &str = "tls.crt";
const LEAF_KEY: &str = "tls.key";
const BUNDLE: &str = "ca.crt";
const SIGNING_KEY: &str = "ca.key";
const NEXT: &str = "next-ca.crt";
const NEXT_KEY: &str = "next-ca.key";

/// Marks the content as ours, with its version.
const MARK: &str = "imageswap.io/certificates";
const FORM: &str = "v1";
/// When the last leaf of the signing authority expires.
const LEAVES_UNTIL: &str = "imageswap.io/leaves-until";
/// When the last leaf of the previous authority expires.
const PREVIOUS_UNTIL: &str = "imageswap.io/previous-until";
/// Set by people who want a new authority now.
const ROTATE: &str = "imageswap.io/rotate-ca";

/// The meaning of a Secret.
#[derive(Debug)]
pub(crate) enum Content {
    /// No content yet.
    Empty,
    /// A user's own certificate.
    Given(Pair),
    /// Ours.
    Managed(State),
    /// Neither.
    Broken {
        /// Whether we wrote it, or the content that it was damaged from.
        ours: bool,
        /// What is wrong.
        reason: String,
    },
}

/// Our content of a Secret.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) signing: Arc<Authority>,
    pub(crate) next: Option<Arc<Authority>>,
    /// Authorities that signed before and are still trusted.
    pub(crate) previous: Vec<Certificate>,
    /// When the last leaf of the previous authority expires, if that is known.
    pub(crate) previous_until: Option<SystemTime>,
    /// When the last leaf of the authority that signs expires, if that is known.
    pub(crate) leaves_until: Option<SystemTime>,
    /// `None` if it cannot be used.
    pub(crate) leaf: Option<Pair>,
    /// Whether a new authority is requested.
    pub(crate) rotate: bool,
}

impl Content {
    pub(crate) fn read(secret: &Secret) -> Self {
        let data = Data(secret.data.as_ref());
        let annotations = Annotations(secret.metadata.annotations.as_ref());
        let marked = annotations.get(MARK).is_some();
        let ours = [LEAF, LEAF_KEY, BUNDLE, SIGNING_KEY, NEXT, NEXT_KEY];
        if ours.iter().all(|key| data.get(key).is_none()) {
            return Self::Empty;
        }
        if data.get(SIGNING_KEY).is_none() && !marked {
            return match data.pair() {
                Ok(pair) => Self::Given(pair),
                Err(reason) => Self::Broken {
                    ours: false,
                    reason,
                },
            };
        }
        match State::read(data, annotations) {
            Ok(state) => Self::Managed(state),
            Err(reason) => Self::Broken {
                ours: marked,
                reason,
            },
        }
    }
}

impl State {
    /// The authorities that clients have to trust, in PEM.
    pub(crate) fn bundle(&self) -> String {
        self.trusted().map(Certificate::pem).collect()
    }

    /// The authorities that clients have to trust.
    pub(crate) fn trusted(&self) -> impl Iterator<Item = &Certificate> {
        [self.signing.certificate()]
            .into_iter()
            .chain(self.next.as_ref().map(|next| next.certificate()))
            .chain(&self.previous)
    }

    /// When the last leaf of the signing authority expires.
    pub(crate) fn leaves_until(&self) -> SystemTime {
        // No leaf outlives its authority.
        let limit = self.signing.certificate().validity().not_after;
        self.leaves_until.unwrap_or(limit)
    }

    /// When the last leaf of previous authorities expires.
    pub(crate) fn previous_until(&self) -> SystemTime {
        let limits = self.previous.iter().map(|ca| ca.validity().not_after);
        self.previous_until
            .or_else(|| limits.max())
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Writes the state into a Secret; other content stays.
    pub(crate) fn write(&self, secret: &mut Secret) {
        let pem = |text: String| Some(text.into_bytes());
        let next = self.next.as_ref();
        let leaf = self.leaf.as_ref();
        let data = secret.data.get_or_insert_default();
        for (key, value) in [
            (LEAF, leaf.map(|leaf| leaf.chain_pem().to_owned())),
            (LEAF_KEY, leaf.map(|leaf| leaf.key_pem().to_owned())),
            (BUNDLE, pem(self.bundle())),
            (SIGNING_KEY, pem(self.signing.key_pem())),
            (NEXT, next.and_then(|next| pem(next.certificate().pem()))),
            (NEXT_KEY, next.and_then(|next| pem(next.key_pem()))),
        ] {
            set(data, key, value.map(ByteString));
        }
        let time = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
        let annotations = secret.metadata.annotations.get_or_insert_default();
        for (key, value) in [
            (MARK, Some(FORM.to_owned())),
            (LEAVES_UNTIL, self.leaves_until.map(time)),
            (PREVIOUS_UNTIL, self.previous_until.map(time)),
            (ROTATE, self.rotate.then(|| "now".to_owned())),
        ] {
            set(annotations, key, value);
        }
    }

    fn read(data: Data<'_>, annotations: Annotations<'_>) -> Result<Self, String> {
        let bundle = data.certificates(BUNDLE)?;
        let [first, rest @ ..] = &*bundle else {
            return Err(format!("{BUNDLE}: no certificate in it"));
        };
        let signing = authority(&first.pem(), data.text(SIGNING_KEY)?)
            .map_err(|error| format!("{BUNDLE} and {SIGNING_KEY}: {error}"))?;
        // A next authority that cannot sign is ignored; a new one is made.
        let next = match (data.get(NEXT), data.text(NEXT_KEY)) {
            (Some(_), Ok(key)) => data
                .certificates(NEXT)
                .ok()
                .and_then(|next| authority(&next.first()?.pem(), key).ok()),
            _ => None,
        };
        let is_next = |ca: &Certificate| next.as_ref().is_some_and(|next| next.certificate() == ca);
        let mut state = Self {
            previous: rest.iter().filter(|ca| !is_next(ca)).cloned().collect(),
            signing,
            next,
            previous_until: annotations.time(PREVIOUS_UNTIL),
            leaves_until: annotations.time(LEAVES_UNTIL),
            leaf: None,
            rotate: annotations.get(ROTATE).is_some(),
        };
        state.leaf = data.pair().ok().filter(|leaf| state.vouches_for(leaf));
        Ok(state)
    }

    /// Whether a client that trusts the bundle would accept the leaf at some time.
    fn vouches_for(&self, leaf: &Pair) -> bool {
        let Some(certificate) = leaf.certificate() else {
            return false;
        };
        let at = certificate.validity().not_before;
        !certificate.names().is_empty()
            && verify(self.trusted(), leaf, certificate.names(), at).is_ok()
    }
}

/// A Secret's data, in which an empty value counts as missing.
#[derive(Clone, Copy)]
struct Data<'a>(Option<&'a BTreeMap<String, ByteString>>);

impl<'a> Data<'a> {
    fn get(self, key: &str) -> Option<&'a [u8]> {
        let value = self.0?.get(key)?;
        Some(&*value.0).filter(|value| !value.is_empty())
    }

    fn text(self, key: &str) -> Result<&'a str, String> {
        let value = self.get(key).ok_or_else(|| format!("{key} is missing"))?;
        str::from_utf8(value).map_err(|error| format!("{key}: {error}"))
    }

    fn certificates(self, key: &str) -> Result<Vec<Certificate>, String> {
        let value = self.get(key).ok_or_else(|| format!("{key} is missing"))?;
        Certificate::all_from_pem(value).map_err(|error| format!("{key}: {error}"))
    }

    fn pair(self) -> Result<Pair, String> {
        let value = |key| self.get(key).ok_or_else(|| format!("{key} is missing"));
        Pair::from_pem(value(LEAF)?, value(LEAF_KEY)?, "the Secret").map_err(|e| e.to_string())
    }
}

#[derive(Clone, Copy)]
struct Annotations<'a>(Option<&'a BTreeMap<String, String>>);

impl<'a> Annotations<'a> {
    fn get(self, key: &str) -> Option<&'a str> {
        self.0?.get(key).map(String::as_str)
    }

    /// Also `None` for foreign content.
    fn time(self, key: &str) -> Option<SystemTime> {
        humantime::parse_rfc3339(self.get(key)?).ok()
    }
}

fn authority(certificate: &str, key: &str) -> Result<Arc<Authority>, String> {
    Authority::from_pem(certificate.as_bytes(), key)
        .map(Arc::new)
        .map_err(|error| error.to_string())
}

fn set<V>(map: &mut BTreeMap<String, V>, key: &str, value: Option<V>) {
    match value {
        Some(value) => map.insert(key.to_owned(), value),
        None => map.remove(key),
    };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::certificates::plan::{Settings, Step, found, perform};

    fn settings() -> Settings {
        Settings {
            names: BTreeSet::from(["web.ns.svc".to_owned()]),
            leaf_lifetime: Duration::from_hours(24),
            ca_lifetime: Duration::from_hours(24 * 30),
            propagation: Duration::from_mins(5),
        }
    }

    fn written(steps: &[Step]) -> (State, Secret) {
        let now = SystemTime::now();
        let mut state = found(now, &settings()).unwrap();
        for step in steps {
            state = perform(*step, &state, now, &settings()).unwrap();
        }
        let mut secret = Secret::default();
        state.write(&mut secret);
        (state, secret)
    }

    fn managed(secret: &Secret) -> State {
        match Content::read(secret) {
            Content::Managed(state) => state,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for steps in [
            &[][..],
            &[Step::Announce],
            &[Step::Announce, Step::Switch],
            &[Step::Announce, Step::Switch, Step::Renew, Step::Retire],
        ] {
            let (state, mut secret) = written(steps);
            let read = managed(&secret);
            assert_eq!(read.bundle(), state.bundle(), "{steps:?}");
            assert_eq!(read.leaf, state.leaf, "{steps:?}");
            assert_eq!(read.leaves_until, state.leaves_until, "{steps:?}");
            assert_eq!(read.previous, state.previous, "{steps:?}");
            assert_eq!(read.previous_until, state.previous_until, "{steps:?}");
            let next = |state: &State| state.next.as_ref().map(|next| next.key_pem());
            assert_eq!(next(&read), next(&state), "{steps:?}");
            let before = secret.clone();
            read.write(&mut secret);
            assert_eq!(secret, before, "{steps:?}");
        }
    }

    #[test]
    fn other_keys_and_annotations_stay() {
        let (state, _) = written(&[]);
        let mut secret = Secret::default();
        let other = ByteString(b"theirs".to_vec());
        secret.data = Some(BTreeMap::from([("other".to_owned(), other.clone())]));
        secret.metadata.annotations =
            Some(BTreeMap::from([("team".to_owned(), "infra".to_owned())]));
        assert!(matches!(Content::read(&secret), Content::Empty));
        state.write(&mut secret);
        assert_eq!(secret.data.unwrap()["other"], other);
        assert_eq!(secret.metadata.annotations.unwrap()["team"], "infra");
    }

    #[test]
    fn every_damage_is_told_apart() {
        let (_, whole) = written(&[Step::Announce]);
        let (_, other) = written(&[]);
        let theirs = |key: &str| other.data.as_ref().unwrap()[key].0.clone();
        let unmarked = |secret: &mut Secret| secret.metadata.annotations = None;
        let read = |changes: &[(&str, Option<Vec<u8>>)], marked: bool| {
            let mut secret = whole.clone();
            for (key, value) in changes {
                set(
                    secret.data.as_mut().unwrap(),
                    key,
                    value.clone().map(ByteString),
                );
            }
            if !marked {
                unmarked(&mut secret);
            }
            match Content::read(&secret) {
                Content::Empty => "empty".to_owned(),
                Content::Given(_) => "given".to_owned(),
                Content::Broken { ours, reason } => format!("ours {ours}: {reason}"),
                Content::Managed(state) => format!(
                    "managed, leaf {}, next {}",
                    state.leaf.is_some(),
                    state.next.is_some()
                ),
            }
        };
        let garbage = || Some(b"garbage".to_vec());
        let no_ca = [
            ("ca.crt", None),
            ("ca.key", None),
            ("next-ca.crt", None),
            ("next-ca.key", None),
        ];
        let half = [no_ca.as_slice(), &[("tls.key", None)]].concat();
        let nothing = [half.as_slice(), &[("tls.crt", Some(vec![]))]].concat();
        for (changes, marked, says) in [
            (&[][..], true, "managed, leaf true, next true"),
            (&[], false, "managed, leaf true, next true"),
            (&nothing, true, "empty"),
            (&no_ca, false, "given"),
            (&no_ca, true, "ours true: ca.crt is missing"),
            (&half, false, "ours false: tls.key is missing"),
            (&half, true, "ours true: ca.crt is missing"),
            (
                &[("ca.crt", garbage())],
                false,
                "ours false: ca.crt: no certificate in it",
            ),
            (
                &[("ca.key", garbage())],
                true,
                "ours true: ca.crt and ca.key: cannot use or make a key",
            ),
            (
                &[("ca.key", Some(theirs("ca.key")))],
                true,
                "ours true: ca.crt and ca.key: the key is not that of",
            ),
            (
                &[("ca.key", Some(vec![255]))],
                true,
                "ours true: ca.key: invalid utf-8",
            ),
            (
                &[("next-ca.key", None)],
                true,
                "managed, leaf true, next false",
            ),
            (
                &[("next-ca.key", Some(theirs("ca.key")))],
                true,
                "managed, leaf true, next false",
            ),
            (
                &[("tls.crt", garbage())],
                true,
                "managed, leaf false, next true",
            ),
            (
                &[("tls.key", Some(theirs("tls.key")))],
                true,
                "managed, leaf false, next true",
            ),
            // A complete pair that the bundle does not verify.
            (
                &[
                    ("tls.crt", Some(theirs("tls.crt"))),
                    ("tls.key", Some(theirs("tls.key"))),
                ],
                true,
                "managed, leaf false, next true",
            ),
        ] {
            let found = read(changes, marked);
            assert!(found.starts_with(says), "{says}: {found}");
        }
    }
}
