//! An image in the form in which answers are compared.

use imageswap_policy::Reference;

/// A reference's parts; all spellings of one image have the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Image {
    pub(crate) host: String,
    /// Segments of the path, with `library` where `docker.io` implies it.
    pub(crate) path: Vec<String>,
    /// The tag; `latest` if there is neither tag nor digest.
    pub(crate) tag: Option<String>,
    pub(crate) digest: Option<String>,
}

impl Image {
    /// Reads a reference; `None` if it is not one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let reference = Reference::parse(text).ok()?;
        let digest = reference.digest().map(str::to_owned);
        let tag = reference.tag().map(str::to_owned);
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Some(Self {
            host: reference.registry().to_owned(),
            path: reference
                .canonical_path()
                .split('/')
                .map(str::to_owned)
                .collect(),
            tag,
            digest,
        })
    }

    /// Host and path.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.host, self.path.join("/"))
    }

    /// The whole reference; the tag `latest` is left out if nothing else is known.
    pub(crate) fn text(&self) -> String {
        self.named(&self.name())
    }

    /// Another name with this image's tag and digest.
    pub(crate) fn named(&self, name: &str) -> String {
        let mut text = name.to_owned();
        match (&self.tag, &self.digest) {
            (Some(tag), None) if tag == "latest" => {}
            (tag, digest) => {
                for (mark, part) in [(':', tag), ('@', digest)] {
                    if let Some(part) = part {
                        text.push(mark);
                        text.push_str(part);
                    }
                }
            }
        }
        text
    }

    /// Every way to write this image.
    pub(crate) fn spellings(&self) -> Vec<(String, Spelling)> {
        let path = self.path.join("/");
        let mut names = vec![(self.name(), Spelling::Full)];
        if self.host == "docker.io" {
            names.push((format!("index.docker.io/{path}"), Spelling::Index));
            let short = path.strip_prefix("library/").filter(|it| !it.contains('/'));
            let bare = short.unwrap_or(&path);
            names.insert(0, (bare.to_owned(), Spelling::Bare));
            if short.is_some() {
                names.push((path.clone(), Spelling::Library));
                names.push((format!("docker.io/{bare}"), Spelling::Familiar));
            }
        }
        let latest = self.digest.is_none() && self.tag.as_deref() == Some("latest");
        let mut all = Vec::new();
        for (name, spelling) in names {
            all.push((self.named(&name), spelling));
            if latest {
                all.push((format!("{name}:latest"), spelling));
            }
        }
        // A short form that looks like a registry is another image.
        all.retain(|(text, _)| Self::parse(text).as_ref() == Some(self));
        all
    }
}

/// How an image is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// `nginx`, `bitnami/redis`.
    Bare,
    /// `docker.io/library/nginx`, and all that is not on `docker.io`.
    Full,
    /// `index.docker.io/library/nginx`.
    Index,
    /// `index.docker.io/library/nginx`.
    Library,
    /// `docker.io/nginx`.
    Familiar,
}

/// Whether the first of several segments names a registry.
pub(crate) fn is_registry(segment: &str) -> bool {
    segment == "localhost"
        || segment.contains(['.', ':'])
        || segment.chars().any(|it| it.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn official_images_have_many_spellings() {
        let spellings = |it: &str| {
            let all = Image::parse(it).expect("a reference").spellings();
            all.into_iter().map(|it| it.0).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            spellings("docker.io/library/nginx:1"),
            "nginx:1 docker.io/library/nginx:1 index.docker.io/library/nginx:1 library/nginx:1 docker.io/nginx:1"
        );
        assert_eq!(spellings("quay.io/a/b"), "quay.io/a/b quay.io/a/b:latest");
        assert_eq!(
            spellings("bitnami/redis:7"),
            "bitnami/redis:7 docker.io/bitnami/redis:7 index.docker.io/bitnami/redis:7"
        );
    }
}
