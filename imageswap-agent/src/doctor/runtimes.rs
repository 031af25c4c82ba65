//! The runtimes that can be asked.

use super::Check;
use crate::evidence::containerd::Containerd;
use crate::evidence::cri::Cri;
use crate::evidence::discover;
use crate::places::NodeArgs;
use std::path::PathBuf;

const NOBODY: &str = "what only it knows stays unresolved";

/// A line for each socket, or one that says that none was found.
pub(super) async fn checks(args: &NodeArgs) -> Vec<Check> {
    let or_found = |named: &Vec<PathBuf>, found: Vec<PathBuf>| {
        if named.is_empty() {
            found
        } else {
            named.clone()
        }
    };
    let containerds = or_found(
        &args.containerd,
        discover::containerd_sockets(&args.host_root),
    );
    let cris = or_found(&args.cri, discover::cri_sockets(&args.host_root));
    let mut checks = Vec::new();
    if containerds.is_empty() && cris.is_empty() {
        let looked = discover::looked_at().count();
        let found = format!("no socket at any of {looked} usual places");
        checks.push(Check::lacking(
            "runtimes",
            found,
            "no image is known, everything is unresolved",
        ));
    }
    for socket in containerds {
        let at = socket.display().to_string();
        checks.push(match Containerd::connect(socket).version().await {
            Ok(version) => Check::ok("containerd", format!("{version} at {at}")),
            Err(error) => Check::lacking("containerd", error.to_string(), NOBODY),
        });
    }
    for socket in cris {
        let at = socket.display().to_string();
        checks.push(match Cri::connect(socket).version().await {
            Ok(it) => Check::ok(
                "cri",
                format!("{} {} ({}) at {at}", it.runtime, it.version, it.api),
            ),
            Err(error) => Check::lacking("cri", error.to_string(), NOBODY),
        });
    }
    checks
}
