//! The flags, checked before the cluster is asked anything.

use std::collections::BTreeSet;
use std::time::Duration;

use imageswap_runtime::cluster::ObjectName;
use imageswap_runtime::tls::server_name;

use super::plan::Settings;

/// A leaf has to reach every replica in the last third of its life, counted in seconds.
const SHORTEST_LEAF: Duration = Duration::from_secs(6);

/// The certificate's Secret, and lifetimes; flatten it into a command's arguments.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "TLS from a Secret")]
#[group(skip)]
pub struct CertificateArgs {
    /// Keep a certificate authority and a certificate in this Secret, which has to exist
    #[arg(long, value_name = "NS/NAME", group = "certificate", conflicts_with_all = ["tls_cert", "tls_key", "tls_self_signed"])]
    pub tls_secret: Option<ObjectName>,
    /// Service of the Secret's namespace that the certificate is for
    #[arg(
        long,
        value_name = "NAME",
        default_value = "imageswap-webhook",
        conflicts_with_all = ["tls_cert", "tls_self_signed"]
    )]
    pub tls_service: String,
    /// Lifetime of a certificate; it is replaced after two thirds of it
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "7days",
        conflicts_with_all = ["tls_cert", "tls_self_signed"]
    )]
    pub tls_leaf_lifetime: humantime::Duration,
    /// Lifetime of a certificate authority; another takes over after two thirds of it
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "365days",
        conflicts_with_all = ["tls_cert", "tls_self_signed"]
    )]
    pub tls_ca_lifetime: humantime::Duration,
    /// How long a caBundle has to have been in force before a certificate relies on it
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "5min",
        conflicts_with_all = ["tls_cert", "tls_self_signed"]
    )]
    pub tls_propagation: humantime::Duration,
    /// Configuration whose caBundle is kept (repeatable; "" for none)
    #[arg(
        long,
        value_name = "NAME",
        default_value = "imageswap",
        conflicts_with_all = ["tls_cert", "tls_self_signed"]
    )]
    pub mutating_webhook_configuration: Vec<String>,
    /// Configuration whose caBundle is kept (repeatable; "" for none)
    #[arg(
        long,
        value_name = "NAME",
        default_value = "imageswap",
        conflicts_with_all = ["tls_cert", "tls_self_signed"]
    )]
    pub validating_webhook_configuration: Vec<String>,
}

/// The configurations to keep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Configurations {
    pub(crate) mutating: BTreeSet<String>,
    pub(crate) validating: BTreeSet<String>,
}

/// Why the flags are not valid.
#[derive(Debug, thiserror::Error)]
pub enum CertificateArgsError {
    /// A name that cannot be in a certificate.
    #[error("{flag} {name:?} is neither a DNS name nor an IP address")]
    Name {
        /// The flag.
        flag: &'static str,
        /// Its value.
        name: String,
    },
    /// A duration that is too short.
    #[error("{flag} {given} is too short, at least {least} is needed: {why}")]
    Short {
        /// The flag.
        flag: &'static str,
        /// Its value.
        given: humantime::Duration,
        /// The shortest that works.
        least: humantime::Duration,
        /// Why.
        why: &'static str,
    },
}

impl CertificateArgs {
    /// The names and times; `None` if the certificate does not come from a Secret. `san` are
    /// further names.
    pub(crate) fn settings(
        &self,
        san: &[String],
    ) -> Result<Option<(ObjectName, Settings)>, CertificateArgsError> {
        let Some(secret) = &self.tls_secret else {
            return Ok(None);
        };
        let (service, namespace) = (&self.tls_service, &secret.namespace);
        let of_service = [
            service.clone(),
            format!("{service}.{namespace}"),
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
        ];
        let canonical = |flag, name: &str| {
            server_name(name).ok_or_else(|| CertificateArgsError::Name {
                flag,
                name: name.to_owned(),
            })
        };
        let mut names = BTreeSet::new();
        for name in &of_service {
            names.insert(canonical("--tls-service", name)?);
        }
        for name in san {
            names.insert(canonical("--tls-san", name)?);
        }
        let settings = Settings {
            names,
            leaf_lifetime: *self.tls_leaf_lifetime,
            ca_lifetime: *self.tls_ca_lifetime,
            propagation: *self.tls_propagation,
        };
        self.check_times(&settings)?;
        Ok(Some((secret.clone(), settings)))
    }

    pub(crate) fn configurations(&self) -> Configurations {
        let named = |names: &[String]| names.iter().filter(|n| !n.is_empty()).cloned().collect();
        Configurations {
            mutating: named(&self.mutating_webhook_configuration),
            validating: named(&self.validating_webhook_configuration),
        }
    }

    fn check_times(&self, settings: &Settings) -> Result<(), CertificateArgsError> {
        let least = settings.shortest_ca_lifetime();
        for (flag, given, least, why) in [
            (
                "--tls-leaf-lifetime",
                self.tls_leaf_lifetime,
                SHORTEST_LEAF,
                "a certificate has to reach every replica in the last third of its life",
            ),
            (
                "--tls-ca-lifetime",
                self.tls_ca_lifetime,
                least,
                "in its last third the next authority is made known, and certificates of the one before expire",
            ),
        ] {
            if *given < least {
                return Err(CertificateArgsError::Short {
                    flag,
                    given,
                    least: least.into(),
                    why,
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        tls: imageswap_runtime::tls::TlsArgs,
        #[command(flatten)]
        certificates: CertificateArgs,
    }

    fn parse(args: &str) -> Result<Command, clap::Error> {
        Command::try_parse_from(["x"].into_iter().chain(args.split_whitespace()))
    }

    #[test]
    fn a_secret_is_one_of_three_origins() {
        for (bad, says) in [
            (
                "",
                "<--tls-cert <FILE>|--tls-self-signed <DIR>|--tls-secret <NS/NAME>>",
            ),
            (
                "--tls-secret a/b --tls-self-signed d",
                "cannot be used with",
            ),
            (
                "--tls-secret a/b --tls-cert c --tls-key k",
                "cannot be used with",
            ),
            ("--tls-self-signed d --tls-service s", "cannot be used with"),
            ("--tls-secret a", "expected NAMESPACE/NAME"),
            (
                "--tls-secret a/b --tls-leaf-lifetime soon",
                "--tls-leaf-lifetime",
            ),
        ] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains(says), "{bad}: {error}");
        }
        let given = parse("--tls-cert c --tls-key k").unwrap();
        assert_eq!(given.certificates.settings(&[]).unwrap(), None);
    }

    #[test]
    fn names_are_those_of_the_service_and_what_was_asked_for() {
        let command = parse("--tls-secret ns/s --tls-service web --tls-san 10.0.0.1").unwrap();
        let (secret, settings) = command
            .certificates
            .settings(&command.tls.tls_san)
            .unwrap()
            .unwrap();
        assert_eq!(secret.to_string(), "ns/s");
        let names: Vec<_> = settings.names.iter().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "10.0.0.1",
                "web",
                "web.ns",
                "web.ns.svc",
                "web.ns.svc.cluster.local"
            ]
        );
    }

    #[test]
    fn configurations_have_a_default_and_may_be_none() {
        let of = |args: &str| {
            let command = parse(&format!("--tls-secret a/b {args}")).unwrap();
            let found = command.certificates.configurations();
            let text = |names: BTreeSet<String>| Vec::from_iter(names).join(",");
            (text(found.mutating), text(found.validating))
        };
        assert_eq!(of(""), ("imageswap".to_owned(), "imageswap".to_owned()));
        assert_eq!(
            of(
                "--mutating-webhook-configuration= --validating-webhook-configuration a --validating-webhook-configuration b"
            ),
            (String::new(), "a,b".to_owned())
        );
    }

    #[test]
    fn times_that_leave_no_time_are_refused() {
        for (args, says) in [
            (
                "--tls-leaf-lifetime 5s",
                "--tls-leaf-lifetime 5s is too short, at least 6s",
            ),
            (
                "--tls-ca-lifetime 20days",
                "--tls-ca-lifetime 20days is too short, at least 21days 30m",
            ),
            (
                "--tls-san not_a(name",
                "--tls-san \"not_a(name\" is neither",
            ),
            ("--tls-service web/x", "--tls-service \"web/x\" is neither"),
        ] {
            let command = parse(&format!("--tls-secret a/b {args}")).unwrap();
            let error = command
                .certificates
                .settings(&command.tls.tls_san)
                .unwrap_err();
            assert!(error.to_string().starts_with(says), "{args}: {error}");
        }
        let quick = "--tls-leaf-lifetime 9s --tls-ca-lifetime 39s --tls-propagation 2s";
        let command = parse(&format!("--tls-secret a/b {quick}")).unwrap();
        assert!(command.certificates.settings(&[]).is_ok());
    }
}
