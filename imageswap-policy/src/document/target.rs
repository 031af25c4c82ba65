//! `to`: the target of a rule.

use crate::pattern::Pattern;
use crate::reference::{Reference, is_registry};
use crate::rules::{Action, Join, Target, Template};

/// Why `to` is not a valid target.
#[derive(Debug)]
pub(super) struct BadTarget {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

/// The action of a rule with `from` and `to`, and the pattern of its results.
///
/// # Errors
/// `to` does not begin an image reference, or `from` and `to` do not go together. The help is a
/// valid text.
pub(super) fn destination(from: &Pattern, to: &str) -> Result<(Action, Pattern), BadTarget> {
    parse(from, to).map_err(|(code, message)| BadTarget {
        code,
        message,
        help: Some(mended(from, to).unwrap_or_else(|| {
            "write a registry and a path, such as `registry.example.com/hub`".to_owned()
        })),
    })
}

/// The text that was likely meant, if this one allows a guess.
fn mended(from: &Pattern, to: &str) -> Option<String> {
    let text = to.trim();
    let text = text.split_once("://").map_or(text, |it| it.1);
    // Wildcards and groups stand for the open part of `from`, which is kept anyway.
    let text = match text.find(['*', '$', '\\', '{', '?']) {
        Some(at) => &text[..text[..at].rfind('/').unwrap_or(0)],
        None => text,
    };
    let text = text.split(char::is_whitespace).next()?.trim_matches('/');
    let untagged = || {
        let last = text.rfind('/').map_or(0, |it| it + 1);
        let end = text[last..].find([':', '@']);
        end.map_or(text, |it| &text[..last + it])
    };
    let name = from.fixed_path().last().unwrap_or("name");
    let tries = [text.to_owned(), text.to_lowercase(), untagged().to_owned()];
    let tries = tries
        .iter()
        .flat_map(|it| [it.clone(), format!("{it}/{name}")])
        .chain([format!("docker.io/{}", untagged())]);
    let fits = |it: &String| it != to && parse(from, it).is_ok();
    let found = tries.into_iter().find(fits)?;
    Some(if !is_registry(untagged().split('/').next()?) {
        format!("write `{found}`, or begin with a registry that has a dot or a port")
    } else if untagged() == found && text != found {
        format!("write `{found}`: the tag of the image is kept")
    } else {
        format!("write `{found}`")
    })
}

fn parse(from: &Pattern, to: &str) -> Result<(Action, Pattern), (&'static str, String)> {
    if to.contains("://") {
        return Err(("scheme", "an image reference has no scheme".to_owned()));
    }
    if to.contains(['$', '\\']) {
        let message = "expected `regex` beside it: a pattern in `from` has no groups";
        return Err(("to", message.to_owned()));
    }
    if to.contains('*') {
        let message =
            "`to` has no wildcards: it replaces the fixed part of `from`, and the rest is kept";
        return Err(("to", message.to_owned()));
    }
    if to.ends_with('/') {
        let message = "expected no `/` at the end: one is put between";
        return Err(("trailing-slash", message.to_owned()));
    }
    let host = to.split('/').next().unwrap_or(to);
    if !is_registry(host) {
        let message =
            format!("expected a registry first, found `{to}`, which is a path on docker.io");
        return Err(("to", message));
    }
    let pattern = |text: &str| Pattern::parse(text).map_err(|why| ("to", why.message));
    let no_prefix = || {
        let message = format!(
            "expected `registry[:port][/path]`, found `{to}`, which begins no image reference"
        );
        ("to", message)
    };
    let last = &to[to.rfind('/').map_or(0, |it| it + 1)..];
    let tagged = to.contains('/') && last.contains([':', '@']);
    let replaces = || {
        let message = "a tag or digest here would replace every tag: `from` names none";
        ("to", message.to_owned())
    };
    // If no part of the path is left over, the result is `to` itself and nothing below it.
    if !from.fixes_path() {
        if tagged {
            return Err(replaces());
        }
        let sample = format!("{to}/x");
        if Reference::parse(&sample).is_err() {
            return Err(no_prefix());
        }
        let join = Join::Path(from.fixed_path().count());
        let target = pattern(&format!("{to}/**"))?;
        return Ok((Action::Replace(Target::new(to, join)), target));
    }
    let reference = Reference::parse(to).map_err(|_invalid| no_prefix())?;
    if !to.contains('/') {
        let message = "expected a registry and a repository, for `from` names one repository";
        return Err(("to", message.to_owned()));
    }
    let (tag, digest) = (reference.tag(), reference.digest());
    if (tag.is_some() || digest.is_some()) && !from.fixes_version() {
        return Err(replaces());
    }
    let join = Join::Rename {
        tag: tag.is_none() && digest.is_none(),
        digest: digest.is_none(),
    };
    Ok((Action::Replace(Target::new(to, join)), pattern(to)?))
}

/// The targets of a template; it has to begin with a registry.
pub(super) fn template_targets(template: &Template) -> Result<Vec<Pattern>, BadTarget> {
    let text = template.as_str();
    let (prefix, whole) = template.prefix();
    let host = prefix.split_once('/').map(|it| it.0);
    if !host.is_some_and(is_registry) {
        let (message, help) = match text.split_once("://") {
            Some((_, rest)) => (
                "an image reference has no scheme".to_owned(),
                format!("write `{rest}`"),
            ),
            None => (
                format!("expected a registry first, found `{text}`: the place would not be known"),
                "write a registry first, as in `registry.example.com/$1`".to_owned(),
            ),
        };
        return Err(BadTarget {
            code: if text.contains("://") { "scheme" } else { "to" },
            message,
            help: Some(help),
        });
    }
    let parse = |text: &str| {
        Pattern::parse(text).map_err(|why| BadTarget {
            code: "to",
            message: why.message,
            help: why.help,
        })
    };
    if whole {
        return Ok(vec![parse(prefix)?]);
    }
    let (base, rest) = prefix.rsplit_once('/').unwrap_or((prefix, ""));
    match rest.split_once([':', '@']) {
        Some((repository, _)) => Ok(vec![parse(&format!("{base}/{repository}"))?]),
        None if rest.is_empty() => Ok(vec![parse(&format!("{base}/**"))?]),
        None => Ok(vec![
            parse(&format!("{base}/{rest}*"))?,
            parse(&format!("{base}/{rest}*/**"))?,
        ]),
    }
}
