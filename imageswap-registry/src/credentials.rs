//! Credentials in the form of `docker login` and of Secrets of type `kubernetes.io/dockerconfigjson`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use serde::Deserialize;

/// A Secret has at most 1 MiB.
const MAX_BYTES: u64 = 1 << 20;

/// Credentials by host. `Debug` shows the hosts alone.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// `user:password` in base64, by host, and port if it has one.
    by_host: BTreeMap<String, String>,
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file has another shape.
    #[error(
        "{name}: expected `{{\"auths\": {{HOST: {{\"auth\": ...}}}}}}`, as `docker login` writes it"
    )]
    Shape {
        /// The file.
        name: String,
    },
    /// The entry of a host cannot be used.
    #[error("{name}: the entry of {host}: {what}")]
    Entry {
        /// The file.
        name: String,
        /// The host.
        host: String,
        /// What is wrong.
        what: &'static str,
    },
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Credentials {
    /// No credentials.
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads the text of a `config.json` or `.dockerconfigjson`; `name` is for messages. Entries without a password
    /// (those of a credential helper, or of an identity token) are left out.
    pub fn parse(name: &str, text: &str) -> Result<Self, CredentialsError> {
        let shape = || CredentialsError::Shape {
            name: name.to_owned(),
        };
        let File { auths } = serde_json::from_str(text).map_err(|_other_shape| shape())?;
        let mut by_host = BTreeMap::new();
        for (key, entry) in auths {
            let host = host(&key);
            let wrong = |what| CredentialsError::Entry {
                name: name.to_owned(),
                host: host.to_owned(),
                what,
            };
            let pair = match (entry.auth, entry.username, entry.password) {
                (Some(auth), _, _) if !auth.is_empty() => {
                    let decoded = STANDARD.decode(auth.trim_end());
                    let decoded = decoded.map_err(|_invalid| wrong("`auth` is not base64"))?;
                    String::from_utf8(decoded).map_err(|_invalid| wrong("`auth` is not text"))?
                }
                (_, Some(user), Some(password)) => format!("{user}:{password}"),
                _ => continue,
            };
            match pair.split_once(':') {
                None => return Err(wrong("`auth` is not `USER:PASSWORD` in base64")),
                // A credential helper or an identity token has the rest.
                Some((_, "")) => {}
                Some(_) => _ = by_host.insert(host.to_owned(), STANDARD.encode(&pair)),
            }
        }
        Ok(Self { by_host })
    }

    /// Reads a file, or all files of a folder and of its folders, as Secrets are mounted. For a host with several
    /// entries, the first file by name counts.
    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        let mut found = Self::none();
        for file in files(path)? {
            let wrong = |source| CredentialsError::Read {
                path: file.clone(),
                source,
            };
            let size = std::fs::metadata(&file).map_err(wrong)?.len();
            let name = file.display().to_string();
            if size > MAX_BYTES {
                return Err(CredentialsError::Shape { name });
            }
            let text = std::fs::read_to_string(&file).map_err(wrong)?;
            for (host, pair) in Self::parse(&name, &text)?.by_host {
                found.by_host.entry(host).or_insert(pair);
            }
        }
        Ok(found)
    }

    /// The hosts with credentials.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.by_host.keys().map(String::as_str)
    }

    /// The header with the credentials of a host.
    pub(crate) fn basic(&self, host: &str) -> Option<HeaderValue> {
        let pair = self.by_host.get(host)?;
        let mut value = HeaderValue::from_str(&format!("Basic {pair}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.hosts()).finish()
    }
}

/// The host of a key, which can be a URL: `https://index.docker.io/v1/` is Docker Hub's.
fn host(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |it| it.1);
    let host = rest.split('/').next().unwrap_or_default();
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

/// The files at `path`, by name. A mounted Secret has hidden folders, which hold the same files.
fn files(path: &Path) -> Result<Vec<PathBuf>, CredentialsError> {
    const DEPTH: usize = 2;
    let mut files = Vec::new();
    let mut rest = vec![(path.to_owned(), 0)];
    while let Some((path, depth)) = rest.pop() {
        let wrong = |source| CredentialsError::Read {
            path: path.clone(),
            source,
        };
        if !std::fs::metadata(&path).map_err(wrong)?.is_dir() {
            files.push(path);
            continue;
        }
        for entry in std::fs::read_dir(&path).map_err(wrong)? {
            let entry = entry.map_err(wrong)?;
            let hidden = entry.file_name().to_string_lossy().starts_with("..");
            if !hidden && depth < DEPTH {
                rest.push((entry.path(), depth + 1));
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(pair: &str) -> String {
        STANDARD.encode(pair)
    }

    #[test]
    fn hosts_are_found_however_they_are_written() {
        let text = format!(
            r#"{{"auths": {{
                "https://index.docker.io/v1/": {{"auth": "{0}"}},
                "r.example.com:5000": {{"username": "u", "password": "p"}},
                "https://q.io/v2/": {{"auth": "{0}", "email": "x"}},
                "helper.io": {{}},
                "token.io": {{"auth": "{1}", "identitytoken": "t"}}
            }}, "credsStore": "pass"}}"#,
            auth("u:p"),
            auth("u:"),
        );
        let credentials = Credentials::parse("c", &text).unwrap();
        let hosts: Vec<_> = credentials.hosts().collect();
        assert_eq!(hosts, ["docker.io", "q.io", "r.example.com:5000"]);
        let header = credentials.basic("r.example.com:5000").unwrap();
        assert_eq!(header.to_str().unwrap(), format!("Basic {}", auth("u:p")));
        assert!(credentials.basic("r.example.com").is_none());
        let shown = format!("{credentials:?}");
        assert!(!shown.contains(&auth("u:p")), "{shown}");
    }

    #[test]
    fn mistakes_are_told_without_the_secret() {
        for (text, says) in [
            ("", "c: expected `{\"auths\""),
            (r#"{"auths": []}"#, "c: expected `{\"auths\""),
            (
                r#"{"auths": {"r.io": {"auth": "!!secret"}}}"#,
                "the entry of r.io: `auth` is not base64",
            ),
            (
                r#"{"auths": {"r.io": {"auth": "c2VjcmV0"}}}"#,
                "the entry of r.io: `auth` is not `USER:PASSWORD`",
            ),
        ] {
            let error = Credentials::parse("c", text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert!(
                !error.contains("secret") && !error.contains("c2Vjc"),
                "{error}"
            );
        }
    }

    #[test]
    fn mounted_secrets_are_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let one = |host: &str, user: &str| {
            format!(r#"{{"auths": {{"{host}": {{"username": "{user}", "password": "p"}}}}}}"#)
        };
        // As a kubelet mounts two Secrets.
        for (name, host, user) in [
            ("a", "r.io", "first"),
            ("b", "r.io", "second"),
            ("b", "q.io", "q"),
        ] {
            let data = folder.path().join(name).join("..data");
            std::fs::create_dir_all(&data).unwrap();
            let file = format!("{host}.json");
            std::fs::write(data.join(&file), one(host, user)).unwrap();
            let link = folder.path().join(name).join(&file);
            std::os::unix::fs::symlink(format!("..data/{file}"), link).unwrap();
        }
        let credentials = Credentials::read(folder.path()).unwrap();
        assert_eq!(credentials.hosts().collect::<Vec<_>>(), ["q.io", "r.io"]);
        let header = credentials.basic("r.io").unwrap();
        assert_eq!(
            header.to_str().unwrap(),
            format!("Basic {}", auth("first:p"))
        );
        let missing = Credentials::read(&folder.path().join("no")).unwrap_err();
        assert!(missing.to_string().contains("/no: "), "{missing}");
    }
}
