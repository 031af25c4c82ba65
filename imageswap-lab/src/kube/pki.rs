//! The certificates and keys of a control plane, and kubeconfig files.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::write;
use crate::error::{Error, Result};
use crate::workspace::Lab;

/// Names of the API server in addition to its address.
const NAMES: [&str; 4] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
];

/// One authority for servers and clients.
#[derive(Debug)]
pub(super) struct Pki {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    ca: PathBuf,
    server_certificate: PathBuf,
    server_key: PathBuf,
    service_account_key: PathBuf,
    service_account_public_key: PathBuf,
}

impl Pki {
    pub(super) fn new(lab: &Lab, address: Ipv4Addr) -> Result<Self> {
        let folder = lab.make_dir("pki")?;
        let file = |name: &str| folder.join(name);
        let made = || -> std::result::Result<_, rcgen::Error> {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, "lab");
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let key = KeyPair::generate()?;
            let certificate = params.self_signed(&key)?;
            let issuer = Issuer::new(params, key);
            let mut names: Vec<_> = NAMES.map(str::to_owned).into();
            names.extend([address.to_string(), "127.0.0.1".to_owned()]);
            names.dedup();
            let server = leaf(
                &issuer,
                CertificateParams::new(names)?,
                "kube-apiserver",
                None,
                ExtendedKeyUsagePurpose::ServerAuth,
            )?;
            Ok((certificate.pem(), issuer, server, KeyPair::generate()?))
        };
        let (ca, issuer, (certificate, key), account) = made().map_err(|error| unusable(&error))?;
        let pki = Self {
            ca: file("ca.crt"),
            server_certificate: file("apiserver.crt"),
            server_key: file("apiserver.key"),
            service_account_key: file("service-accounts.key"),
            service_account_public_key: file("service-accounts.pub"),
            folder,
            issuer,
        };
        write(&pki.ca, &ca)?;
        write(&pki.server_certificate, &certificate)?;
        write(&pki.server_key, &key)?;
        write(&pki.service_account_key, &account.serialize_pem())?;
        write(&pki.service_account_public_key, &account.public_key_pem())?;
        Ok(pki)
    }

    /// The authority's certificate.
    pub(super) fn ca(&self) -> &Path {
        &self.ca
    }

    pub(super) fn server_certificate(&self) -> &Path {
        &self.server_certificate
    }

    pub(super) fn server_key(&self) -> &Path {
        &self.server_key
    }

    /// The key that signs service accounts' tokens.
    pub(super) fn service_account_key(&self) -> &Path {
        &self.service_account_key
    }

    /// The key that verifies them.
    pub(super) fn service_account_public_key(&self) -> &Path {
        &self.service_account_public_key
    }

    /// Writes a kubeconfig file for a user, who may be in a group.
    pub(super) fn kubeconfig(
        &self,
        server: SocketAddr,
        user: &str,
        group: Option<&str>,
    ) -> Result<PathBuf> {
        let (certificate, key) = leaf(
            &self.issuer,
            CertificateParams::default(),
            user,
            group,
            ExtendedKeyUsagePurpose::ClientAuth,
        )
        .map_err(|error| unusable(&error))?;
        let name = user.replace(|it: char| !it.is_ascii_alphanumeric(), "-");
        let file = |suffix: &str| self.folder.join(format!("{name}.{suffix}"));
        write(&file("crt"), &certificate)?;
        write(&file("key"), &key)?;
        // JSON is valid YAML.
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": {
                "server": format!("https://{server}"),
                "certificate-authority": self.ca,
            }}],
            "users": [{"name": user, "user": {
                "client-certificate": file("crt"),
                "client-key": file("key"),
            }}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
            "current-context": "lab",
        });
        let path = file("kubeconfig");
        write(&path, &config.to_string())?;
        Ok(path)
    }
}

/// A certificate and its key, in PEM.
fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    mut params: CertificateParams,
    name: &str,
    group: Option<&str>,
    usage: ExtendedKeyUsagePurpose,
) -> std::result::Result<(String, String), rcgen::Error> {
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(group) = group {
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
    }
    params.extended_key_usages = vec![usage];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn unusable(error: &rcgen::Error) -> Error {
    Error::Unusable(format!("a certificate for the control plane: {error}"))
}
