//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use imageswap_registry::RegistryArgs;
use imageswap_runtime::cluster::ClusterArgs;
use imageswap_runtime::log::LogArgs;
use imageswap_runtime::manual::ManualArgs;
use imageswap_runtime::source::PolicyArgs;
use imageswap_runtime::telemetry::OtlpArgs;
use imageswap_runtime::tls::TlsArgs;

use crate::certificates::CertificateArgs;
use crate::limits::LimitArgs;

/// Rewrites the images of Pods to approved registries at admission
#[derive(Debug, Parser)]
#[command(name = "imageswap-webhook", version, max_term_width = 80)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer AdmissionReviews over HTTPS, at /mutate (or /), /validate and /validate-policy
    Serve(Box<ServeArgs>),
    /// Write manual pages
    #[command(hide = true)]
    Man(ManualArgs),
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
#[command(
    override_usage = "imageswap-webhook serve --maps FILE --tls-self-signed DIR [OPTIONS]\n       \
                            imageswap-webhook serve --maps FILE --tls-cert FILE --tls-key FILE"
)]
pub struct ServeArgs {
    /// Address for AdmissionReviews (HTTPS)
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,
    /// Address for /livez, /readyz, /metrics and /log-level (plain HTTP)
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8080")]
    pub admin: SocketAddr,
    /// Seconds after SIGTERM during which new connections are still accepted
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub drain_delay: u32,
    /// Seconds after SIGTERM after which all connections are closed
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    pub drain_timeout: u32,
    /// Where the policy comes from.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// How to reach the cluster, if needed.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Where the certificate comes from.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Authorities in PEM that sign the API servers' client certificates; clients without such a
    /// certificate then share an eighth of the connections and do not delay the others' reviews
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    pub client_ca: Option<PathBuf>,
    /// How to keep the certificate in the cluster.
    #[command(flatten)]
    pub certificates: CertificateArgs,
    /// MutatingWebhookConfiguration that gets the rules in its annotation imageswap.io/rules while a
    /// policy is in force
    #[arg(long, value_name = "NAME", help_heading = "Registration")]
    pub register_mutating: Option<String>,
    /// ValidatingWebhookConfiguration, in the same way
    #[arg(long, value_name = "NAME", help_heading = "Registration")]
    pub register_validating: Option<String>,
    /// How to ask registries, if a policy has `ifMissing: keep`.
    #[command(flatten)]
    pub registries: RegistryArgs,
    /// Limits.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
    /// Where to send traces.
    #[command(flatten)]
    pub otlp: OtlpArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(args: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(
            ["imageswap-webhook", "serve"]
                .into_iter()
                .chain(args.split_whitespace()),
        )
    }

    #[test]
    fn the_command_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_fits_a_terminal() {
        let mut command = Cli::command();
        let serve = command
            .find_subcommand_mut("serve")
            .unwrap()
            .clone()
            .max_term_width(80);
        let help = serve.term_width(80).render_long_help().to_string();
        let long: Vec<_> = help
            .lines()
            .filter(|line| line.chars().count() > 80)
            .collect();
        assert!(long.is_empty(), "{long:?}");
    }

    #[test]
    fn policy_and_certificate_come_from_one_place_each() {
        for good in [
            "--maps m --tls-self-signed d",
            "--image-prefix p --tls-cert c --tls-key k",
            "--maps m --tls-self-signed d --tls-san a --tls-san b",
        ] {
            assert!(parse(good).is_ok(), "{good}: {:?}", parse(good).err());
        }
        for (bad, says) in [
            (
                "--maps m --policy-from-cluster --tls-self-signed d",
                "cannot be used with",
            ),
            ("--maps m", "--tls-self-signed <DIR>"),
            (
                "--maps m --image-prefix p --tls-self-signed d",
                "cannot be used with",
            ),
            ("--maps m --tls-cert c", "--tls-key <FILE>"),
            (
                "--maps m --tls-cert c --tls-key k --tls-self-signed d",
                "cannot be used with",
            ),
            (
                "--maps m --tls-cert c --tls-key k --tls-san n",
                "cannot be used with",
            ),
            (
                "--maps m --tls-self-signed d --listen 8443",
                "--listen <ADDR>",
            ),
        ] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }
}
