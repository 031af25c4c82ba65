//! Certificates for use without a PKI: a certificate authority in a folder, and a leaf that it signs.
//!
//! | file | mode | what |
//! |---|---|---|
//! | `ca.crt` | 0644 | what clients verify with |
//! | `ca.key` | 0600 | signs the next leaf, so that a renewal or another name does not break clients |
//! | `tls.crt`, `tls.key` | 0644, 0600 | the leaf that is served |

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::authority::{Authority, AuthorityError, VerifyError, verify};
use super::certificate::{Validity, server_name};
use super::pair::{Pair, PairError, PairFiles};

const DAY: Duration = Duration::from_hours(24);
/// Clients pin the CA, so it lives far longer than its leaves.
const CA_VALIDITY: Duration = DAY.saturating_mul(3650);
/// Some clients refuse leaves that are valid for much longer than a year.
const LEAF_VALIDITY: Duration = DAY.saturating_mul(365);
/// A leaf with less time left is replaced.
const LEAF_RENEWAL: Duration = DAY.saturating_mul(120);
/// Certificates begin in the past, for clients whose clock is late.
const CLOCK_SKEW: Duration = DAY;

/// A folder with a certificate authority, and the names that the leaf needs.
#[derive(Debug)]
pub(super) struct SelfSigned {
    dir: PathBuf,
    names: BTreeSet<String>,
}

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum SelfSignedError {
    /// A name that cannot be in a certificate.
    #[error("--tls-san {0:?} is neither a DNS name nor an IP address")]
    Name(String),
    /// The folder or a file in it.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The attempted action.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Existing files that this program did not write and would overwrite.
    #[error("{} is there, but not the certificate authority it belongs to: move it away, or choose another folder", .0.display())]
    Foreign(PathBuf),
    /// The authority in the folder cannot sign a certificate that verifies.
    #[error("the certificate authority in {} cannot be used: {reason}; move ca.crt and ca.key away to have a new one made", dir.display())]
    Authority {
        /// The folder.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Making a key or a certificate failed.
    #[error("cannot make a certificate: {0}")]
    Generate(#[from] AuthorityError),
    /// The pair that was made or found cannot be used.
    #[error(transparent)]
    Pair(#[from] PairError),
}

/// Whether a leaf that expires at `not_after` is still fresh.
pub(super) fn is_fresh(not_after: SystemTime, now: SystemTime) -> bool {
    not_after >= now + LEAF_RENEWAL
}

impl SelfSigned {
    /// Collects the names: this machine's, the listen address, and the flags'.
    pub(super) fn new(
        dir: PathBuf,
        listen: IpAddr,
        extra: Vec<String>,
    ) -> Result<Self, SelfSignedError> {
        let mut names = BTreeSet::from([
            "localhost".to_owned(),
            Ipv4Addr::LOCALHOST.to_string(),
            Ipv6Addr::LOCALHOST.to_string(),
        ]);
        if !listen.is_unspecified() {
            names.insert(listen.to_string());
        }
        let uname = rustix::system::uname();
        let hostname = uname.nodename().to_string_lossy();
        // A host's name may not be valid in a certificate.
        if server_name(&hostname).is_some() {
            names.insert(hostname.into_owned());
        }
        for name in extra {
            if server_name(&name).is_none() {
                return Err(SelfSignedError::Name(name));
            }
            names.insert(name);
        }
        Ok(Self { dir, names })
    }

    /// The folder's leaf, or a new one if it is missing, too old, or lacks a name.
    pub(super) fn obtain(&self, now: SystemTime) -> Result<Pair, SelfSignedError> {
        fs::create_dir_all(&self.dir).map_err(|source| SelfSignedError::Io {
            action: "create",
            path: self.dir.clone(),
            source,
        })?;
        let files = PairFiles {
            cert: self.dir.join("tls.crt"),
            key: self.dir.join("tls.key"),
        };
        let authority = self.authority(&files, now)?;
        let kept = files
            .read()
            .and_then(|pem| files.parse(&pem))
            .ok()
            .filter(|pair| {
                pair.not_after()
                    .is_some_and(|not_after| is_fresh(not_after, now))
                    && self.verify(&authority, pair, now).is_ok()
            });
        if let Some(pair) = kept {
            return Ok(pair);
        }
        let pair = self.issue(&authority, &files, now)?;
        tracing::info!(dir = %self.dir.display(), names = ?self.names, "certificate made");
        Ok(pair)
    }

    /// The folder's authority, or a new one if there is none and nothing would be overwritten.
    fn authority(&self, leaf: &PairFiles, now: SystemTime) -> Result<Authority, SelfSignedError> {
        let (cert, key) = (self.dir.join("ca.crt"), self.dir.join("ca.key"));
        if !cert.exists() && !key.exists() {
            if let Some(foreign) = [&leaf.cert, &leaf.key]
                .into_iter()
                .find(|path| path.exists())
            {
                return Err(SelfSignedError::Foreign(foreign.clone()));
            }
            let made = Authority::generate("ImageSwap self-signed CA", validity(now, CA_VALIDITY))?;
            write(&key, made.key_pem().as_bytes(), 0o600)?;
            write(&cert, made.certificate().pem().as_bytes(), 0o644)?;
        }
        let text = |path: PathBuf| {
            fs::read_to_string(&path).map_err(|source| SelfSignedError::Io {
                action: "read",
                path,
                source,
            })
        };
        let (cert, key) = (text(cert)?, text(key)?);
        let authority =
            Authority::from_pem(cert.as_bytes(), &key).map_err(|e| self.unusable(&e))?;
        // The verifier accepts a trust anchor of any age; other clients do not.
        if authority.certificate().validity().not_after <= now {
            return Err(self.unusable(&"it has expired"));
        }
        Ok(authority)
    }

    /// Signs a new leaf and verifies it as a client would, before anything is written.
    fn issue(
        &self,
        authority: &Authority,
        files: &PairFiles,
        now: SystemTime,
    ) -> Result<Pair, SelfSignedError> {
        let pair = authority.issue(&self.names, validity(now, LEAF_VALIDITY))?;
        self.verify(authority, &pair, now)
            .map_err(|reason| self.unusable(&reason))?;
        write(&files.key, pair.key_pem(), 0o600)?;
        write(&files.cert, pair.chain_pem(), 0o644)?;
        Ok(pair)
    }

    fn verify(
        &self,
        authority: &Authority,
        pair: &Pair,
        now: SystemTime,
    ) -> Result<(), VerifyError> {
        verify([authority.certificate()], pair, &self.names, now)
    }

    fn unusable(&self, reason: &dyn ToString) -> SelfSignedError {
        SelfSignedError::Authority {
            dir: self.dir.clone(),
            reason: reason.to_string(),
        }
    }
}

fn validity(now: SystemTime, lifetime: Duration) -> Validity {
    Validity {
        not_before: now - CLOCK_SKEW,
        not_after: now + lifetime,
    }
}

/// Writes to a temporary file and renames it, so that no reader sees half of the content. The
/// temporary file is always created new: a key must never go into a prepared file with other
/// permissions, or through a link.
fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), SelfSignedError> {
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let failed = |source| SelfSignedError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    };
    // Left by a killed process with the same id.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&beside, path))
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    fn leaf(pair: &Pair) -> Vec<u8> {
        pair.chain_pem().to_vec()
    }

    fn obtain(dir: &Path, extra: &[&str], now: SystemTime) -> Result<Pair, SelfSignedError> {
        let extra = extra.iter().map(ToString::to_string).collect();
        SelfSigned::new(dir.to_owned(), ANY, extra)?.obtain(now)
    }

    #[test]
    fn a_restart_serves_the_same_leaf() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let first = obtain(dir.path(), &[], now).unwrap();
        assert!(first.not_after().unwrap() > now + DAY * 364);
        assert_eq!(
            leaf(&obtain(dir.path(), &[], now + DAY * 100).unwrap()),
            leaf(&first)
        );
        for (file, mode) in [
            ("ca.crt", 0o644),
            ("ca.key", 0o600),
            ("tls.crt", 0o644),
            ("tls.key", 0o600),
        ] {
            let metadata = fs::metadata(dir.path().join(file)).unwrap();
            assert_eq!(
                metadata.permissions().mode() & 0o777 & !0o022,
                mode & !0o022,
                "{file}"
            );
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }

    #[test]
    fn keys_go_into_no_file_that_was_laid_out_before() {
        let dir = tempfile::tempdir().unwrap();
        let trap = dir.path().join("trap");
        fs::write(&trap, "").unwrap();
        fs::set_permissions(&trap, fs::Permissions::from_mode(0o666)).unwrap();
        let beside = format!("new-{}", std::process::id());
        std::os::unix::fs::symlink(&trap, dir.path().join(format!("ca.{beside}"))).unwrap();
        let open = dir.path().join(format!("tls.{beside}"));
        fs::write(&open, "").unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o666)).unwrap();
        obtain(dir.path(), &[], SystemTime::now()).unwrap();
        assert_eq!(fs::read(&trap).unwrap(), b"");
        for key in ["ca.key", "tls.key"] {
            let metadata = fs::symlink_metadata(dir.path().join(key)).unwrap();
            assert!(metadata.is_file(), "{key}");
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{key}");
        }
    }

    #[test]
    fn an_aged_leaf_or_another_name_makes_a_new_leaf_under_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let first = obtain(dir.path(), &[], now).unwrap();
        let ca = fs::read(dir.path().join("ca.crt")).unwrap();
        let later = now + DAY * 300;
        let aged = obtain(dir.path(), &[], later).unwrap();
        assert_ne!(leaf(&aged), leaf(&first));
        assert!(is_fresh(aged.not_after().unwrap(), later));
        let named = obtain(
            dir.path(),
            &["imageswap.imageswap-system.svc", "192.0.2.7"],
            later,
        )
        .unwrap();
        assert_ne!(leaf(&named), leaf(&aged));
        assert_eq!(fs::read(dir.path().join("ca.crt")).unwrap(), ca);
    }

    #[test]
    fn files_of_others_are_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tls.key"), "mine").unwrap();
        let error = obtain(dir.path(), &[], SystemTime::now()).unwrap_err();
        assert!(
            matches!(&error, SelfSignedError::Foreign(path) if path.ends_with("tls.key")),
            "{error}"
        );
        assert_eq!(
            fs::read_to_string(dir.path().join("tls.key")).unwrap(),
            "mine"
        );
    }

    #[test]
    fn an_authority_that_does_not_sign_what_verifies_is_refused() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = SystemTime::now();
        obtain(one.path(), &[], now).unwrap();
        obtain(two.path(), &[], now).unwrap();
        fs::copy(two.path().join("ca.key"), one.path().join("ca.key")).unwrap();
        let served = fs::read(one.path().join("tls.crt")).unwrap();
        let error = obtain(one.path(), &["other.example.com"], now).unwrap_err();
        assert!(
            matches!(error, SelfSignedError::Authority { .. }),
            "{error}"
        );
        assert_eq!(fs::read(one.path().join("tls.crt")).unwrap(), served);

        // The same happens if the authority itself has expired.
        let error = obtain(two.path(), &[], now + DAY * 3651).unwrap_err();
        assert!(
            matches!(error, SelfSignedError::Authority { .. }),
            "{error}"
        );
    }

    #[test]
    fn a_bad_name_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = obtain(dir.path(), &["not a name"], SystemTime::now()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--tls-san \"not a name\" is neither a DNS name nor an IP address"
        );
    }
}
