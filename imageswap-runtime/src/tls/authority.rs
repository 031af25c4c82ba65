//! A certificate authority, and verification as clients do it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::{ServerName, UnixTime};

use super::certificate::{Certificate, CertificateError, Validity};
use super::pair::{Pair, PairError};

/// A CA certificate with its private key: ECDSA on P-256.
pub struct Authority {
    certificate: Certificate,
    key: KeyPair,
}

/// Why there is no authority, or it cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The certificate cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// There has to be exactly one.
    #[error("{0} certificates where the one of the authority is expected")]
    Count(usize),
    /// The issuer of a leaf needs a common name.
    #[error("the authority's certificate has no common name")]
    Nameless,
    /// The key belongs to another certificate.
    #[error("the key is not that of the authority's certificate")]
    OtherKey,
    /// A key cannot be read or made, or signing failed.
    #[error("cannot use or make a key: {0}")]
    Key(#[from] rcgen::Error),
    /// The signed certificate cannot be used.
    #[error(transparent)]
    Pair(#[from] PairError),
}

/// Why a client would refuse a certificate.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A trusted certificate or the chain cannot be used.
    #[error("cannot verify: {0}")]
    Setup(String),
    /// It is not valid for this name.
    #[error("{name}: {source}")]
    Refused {
        /// The name of the server.
        name: String,
        /// Why.
        source: rustls::Error,
    },
}

impl Authority {
    /// Makes a key and signs its certificate with it. `name` becomes the common name.
    pub fn generate(name: &str, validity: Validity) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = params(name);
        params.not_before = validity.not_before.into();
        params.not_after = validity.not_after.into();
        let certificate = Certificate::from_der(params.self_signed(&key)?.der())?;
        Ok(Self { certificate, key })
    }

    /// Reads certificate and key in PEM, and checks that they match.
    pub fn from_pem(certificate: &[u8], key: &str) -> Result<Self, AuthorityError> {
        let [certificate] = <[_; 1]>::try_from(Certificate::all_from_pem(certificate)?)
            .map_err(|all| AuthorityError::Count(all.len()))?;
        let key = KeyPair::from_pem(key)?;
        if certificate.common_name().is_none() {
            return Err(AuthorityError::Nameless);
        }
        if key.subject_public_key_info() != certificate.public_key() {
            return Err(AuthorityError::OtherKey);
        }
        Ok(Self { certificate, key })
    }

    /// The certificate that clients verify with.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The private key in PEM.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Signs a server's certificate for `names`, with a new key.
    pub fn issue(
        &self,
        names: &BTreeSet<String>,
        validity: Validity,
    ) -> Result<Pair, AuthorityError> {
        let mut leaf = CertificateParams::new(names.iter().cloned().collect::<Vec<_>>())?;
        leaf.distinguished_name = distinguished_name("imageswap");
        leaf.not_before = validity.not_before.into();
        leaf.not_after = validity.not_after.into();
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;

        let name = self.certificate.common_name();
        let issuer = params(name.ok_or(AuthorityError::Nameless)?);
        let issuer = Issuer::from_params(&issuer, &self.key);
        let key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&key, &issuer)?.pem();
        let pair = Pair::from_pem(
            certificate.as_bytes(),
            key.serialize_pem().as_bytes(),
            "the certificate just made",
        )?;
        Ok(pair)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys must not get into logs.
        f.debug_struct("Authority")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// Verifies a server's chain for every one of its `names`, as a client that trusts `roots` would.
///
/// The roots' own validity is ignored, although some clients check it.
pub fn verify<'a>(
    roots: impl IntoIterator<Item = &'a Certificate>,
    pair: &Pair,
    names: impl IntoIterator<Item = impl AsRef<str>>,
    at: SystemTime,
) -> Result<(), VerifyError> {
    let setup = |error: &dyn ToString| VerifyError::Setup(error.to_string());
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.der().clone()).map_err(|e| setup(&e))?;
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), super::provider())
        .build()
        .map_err(|e| setup(&e))?;
    let (leaf, intermediates) = pair.chain().split_first().ok_or_else(|| setup(&"empty"))?;
    let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH);
    let at = UnixTime::since_unix_epoch(since_epoch.unwrap_or(Duration::ZERO));
    for name in names {
        let name = name.as_ref();
        let server = ServerName::try_from(name).map_err(|e| setup(&e))?;
        verifier
            .verify_server_cert(leaf, intermediates, &server, &[], at)
            .map_err(|source| VerifyError::Refused {
                name: name.to_owned(),
                source,
            })?;
    }
    Ok(())
}

/// A leaf's issuer is rebuilt from this, so nothing here may depend on time or place.
fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = distinguished_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn distinguished_name(common_name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, common_name);
    distinguished
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_hours(24);

    fn authority(now: SystemTime) -> Authority {
        Authority::generate("test CA", Validity::from_now(now, LIFE * 10)).unwrap()
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_was_read_again_signs_what_the_first_is_trusted_for() {
        let now = SystemTime::now();
        let made = authority(now);
        let pem = made.certificate().pem();
        let read = Authority::from_pem(pem.as_bytes(), &made.key_pem()).unwrap();
        assert_eq!(read.certificate(), made.certificate());

        let names = names(&["web.ns.svc", "10.1.2.3", "::1"]);
        let validity = Validity::from_now(now, LIFE);
        let pair = read.issue(&names, validity).unwrap();
        assert_eq!(pair.certificate().unwrap().names(), &names);
        let found = pair.certificate().unwrap().validity();
        assert!(
            validity.not_after.duration_since(found.not_after).unwrap() < Duration::from_secs(1)
        );
        let other = authority(now);
        let both = [made.certificate(), other.certificate()];
        for (roots, name, at, verifies) in [
            (&both[..1], "web.ns.svc", now, true),
            (&both[..], "10.1.2.3", now, true),
            (&both[..], "::1", now + LIFE - Duration::from_mins(1), true),
            (&both[1..], "web.ns.svc", now, false),
            (&both[..], "other.ns.svc", now, false),
            (
                &both[..],
                "web.ns.svc",
                now + LIFE + Duration::from_mins(1),
                false,
            ),
            (&[], "web.ns.svc", now, false),
        ] {
            let verified = verify(roots.iter().copied(), &pair, [name], at);
            assert_eq!(verified.is_ok(), verifies, "{name}: {verified:?}");
        }
    }

    #[test]
    fn what_is_no_authority_is_told() {
        let now = SystemTime::now();
        let (one, other) = (authority(now), authority(now));
        let (pem, key) = (one.certificate().pem(), one.key_pem());
        let two = pem.clone() + &other.certificate().pem();
        for (certificate, key, says) in [
            (&*pem, &*other.key_pem(), "the key is not that of"),
            (&*pem, "garbage", "cannot use or make a key"),
            ("garbage", &*key, "0 certificates where the one"),
            (&*two, &*key, "2 certificates where the one"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                &*key,
                "not an X.509 certificate",
            ),
        ] {
            let error = Authority::from_pem(certificate.as_bytes(), key).unwrap_err();
            assert!(error.to_string().contains(says), "{says}: {error}");
        }
    }
}
