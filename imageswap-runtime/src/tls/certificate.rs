//! One X.509 certificate, with the fields that matter here.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, ServerName};
use x509_cert::der::asn1::{Any, PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::db::rfc4519::CN;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Certificates begin this much before they are made, for clients whose clock is late.
const BACKDATING: Duration = Duration::from_hours(1);

/// A certificate that was parsed.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: CertificateDer<'static>,
    common_name: Option<String>,
    names: BTreeSet<String>,
    public_key: Vec<u8>,
    validity: Validity,
}

/// The period in which a certificate may be used, to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: SystemTime,
    /// The last moment.
    pub not_after: SystemTime,
}

/// Why a text contains no usable certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It is not PEM.
    #[error("no certificate in PEM: {0}")]
    Pem(#[from] pem::Error),
    /// The PEM content is not a certificate.
    #[error("not an X.509 certificate: {0}")]
    Der(#[from] x509_cert::der::Error),
}

impl Certificate {
    /// All certificates of a PEM text, in order; possibly empty.
    pub fn all_from_pem(pem: &[u8]) -> Result<Vec<Self>, CertificateError> {
        CertificateDer::pem_slice_iter(pem)
            .map(|der| Self::from_der(&der?))
            .collect()
    }

    pub(super) fn from_der(der: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let parsed = x509_cert::Certificate::from_der(der)?.tbs_certificate;
        let names = parsed
            .get::<SubjectAltName>()?
            .map(|(_, names)| names.0)
            .unwrap_or_default();
        Ok(Self {
            der: der.clone().into_owned(),
            common_name: parsed
                .subject
                .0
                .iter()
                .flat_map(|rdn| rdn.0.iter())
                .find(|attribute| attribute.oid == CN)
                .and_then(|attribute| text(&attribute.value)),
            names: names.iter().filter_map(alternative_name).collect(),
            public_key: parsed.subject_public_key_info.to_der()?,
            validity: Validity {
                not_before: parsed.validity.not_before.to_system_time(),
                not_after: parsed.validity.not_after.to_system_time(),
            },
        })
    }

    /// The period of validity.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Its DNS names and IP addresses, as [`server_name`] writes them.
    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// The text, with a final line break.
    pub fn pem(&self) -> String {
        let base64 = STANDARD.encode(&self.der);
        let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
        let mut rest = base64.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(64));
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text.push_str("-----END CERTIFICATE-----\n");
        text
    }

    pub(super) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    pub(super) fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The SubjectPublicKeyInfo in DER.
    pub(super) fn public_key(&self) -> &[u8] {
        &self.public_key
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("common_name", &self.common_name)
            .field("names", &self.names)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

impl Validity {
    /// For a certificate made `now` that is valid for `lifetime`. It begins an hour earlier, for
    /// clients whose clock is late.
    pub fn from_now(now: SystemTime, lifetime: Duration) -> Self {
        Self {
            not_before: now - BACKDATING,
            not_after: now + lifetime,
        }
    }

    /// The same, but ending at `limit` at the latest.
    #[must_use]
    pub fn ending_by(self, limit: SystemTime) -> Self {
        Self {
            not_after: self.not_after.min(limit),
            ..self
        }
    }

    /// When two thirds of the lifetime are over. It depends on the certificate and not on settings,
    /// so that programs with different settings agree.
    pub fn renewal(&self) -> SystemTime {
        let made = self.not_before + BACKDATING;
        let lifetime = self.not_after.duration_since(made).unwrap_or_default();
        self.not_after - lifetime / 3
    }
}

/// A DNS name or an IP address in the form in which certificates' names are compared here; `None`
/// for other texts.
pub fn server_name(text: &str) -> Option<String> {
    match ServerName::try_from(text).ok()? {
        ServerName::DnsName(name) => Some(name.as_ref().to_ascii_lowercase()),
        ServerName::IpAddress(address) => Some(IpAddr::from(address).to_string()),
        _ => None,
    }
}

/// A directory string, in the two forms that are in use.
fn text(value: &Any) -> Option<String> {
    let printable = value.decode_as::<PrintableStringRef<'_>>();
    let printable = printable.map(|text| text.to_string());
    let utf8 = || value.decode_as::<Utf8StringRef<'_>>();
    printable
        .or_else(|_| utf8().map(|text| text.to_string()))
        .ok()
}

fn alternative_name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_ascii_lowercase()),
        GeneralName::IpAddress(octets) => {
            let octets = octets.as_bytes();
            let four = <[u8; 4]>::try_from(octets).map(IpAddr::from);
            let address = four.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_at_two_thirds_of_what_a_certificate_lives() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(1_000_000);
        for lifetime in [9, 90, 86_400 * 7].map(Duration::from_secs) {
            let validity = Validity::from_now(now, lifetime);
            assert_eq!(validity.renewal(), now + lifetime / 3 * 2);
            let limited = validity.ending_by(now + lifetime / 3);
            assert_eq!(limited.not_after, now + lifetime / 3);
            assert_eq!(limited.renewal(), now + lifetime / 3 - lifetime / 9);
        }
    }

    #[test]
    fn names_have_one_form() {
        for (text, name) in [
            ("Web.Ns.svc", Some("web.ns.svc")),
            ("10.0.0.1", Some("10.0.0.1")),
            ("0:0::1", Some("::1")),
            ("not a name", None),
            ("", None),
        ] {
            assert_eq!(server_name(text).as_deref(), name, "{text}");
        }
    }
}
