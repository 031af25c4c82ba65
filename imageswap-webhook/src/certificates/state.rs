//! What a Secret says: ours, somebody's own certificate, nothing, or nonsense.
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

/// Says that the content is ours, and in which form.
const MARK: &str = "imageswap.io/certificates";
const FORM: &str = "v1";
/// When the last leaf of the authority that signs expires.
const LEAVES_UNTIL: &str = "imageswap.io/leaves-until";
/// When the last leaf of the previous authority expires.
const PREVIOUS_UNTIL: &str = "imageswap.io/previous-until";
/// Set by people who want another authority now.
const ROTATE: &str = "imageswap.io/rotate-ca";

/// What a Secret says.
#[derive(Debug)]
pub(crate) enum Content {
    /// Nothing yet.
    Empty,
    /// Somebody's own certificate.
    Given(Pair),
    /// Ours.
    Managed(State),
    /// Neither.
    Broken {
        /// Whether we wrote it, or something that it was made of.
        ours: bool,
        /// What is wrong.
        reason: String,
    },
}

/// A Secret of ours.
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
    /// None when it is of no use.
    pub(crate) leaf: Option<Pair>,
    /// Somebody asks for another authority.
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
    /// What clients have to trust, in PEM.
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

    /// When the last leaf of the authority that signs expires.
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

    /// Puts the state into a Secret; whatever else it holds stays.
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
        // A next authority that cannot sign is none; another is made.
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

    /// Whether a client that trusts the bundle would take the leaf at some time.
    fn vouches_for(&self, leaf: &Pair) -> bool {
        let Some(certificate) = leaf.certificate() else {
            return false;
        };
        let at = certificate.validity().not_before;
        !certificate.names().is_empty()
            && verify(self.trusted(), leaf, certificate.names(), at).is_ok()
    }
}

/// A Secret's data, in which an empty value is none.
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

    /// None also where somebody wrote something else.
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
