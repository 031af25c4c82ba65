//! The OCI runtime that containerd, Docker, podman and bundles of a lab use.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::image::BUSYBOX;
use crate::needs::find;

/// Names the runtime; runc without it.
const VARIABLE: &str = "IMAGESWAP_OCI_RUNTIME";

/// Removes the resource limits from the bundle and starts the runtime.
///
/// `config.json` has no `"resources":{` outside `linux`, because quotes in strings are escaped.
const WRAPPER: &str = r#"#!BUSYBOX sh
bundle=.
create=
previous=
for word in "$@"; do
    [ "$previous" = --bundle ] && bundle=$word
    [ "$word" = create ] && create=1
    previous=$word
done
if [ -n "$create" ]; then
    BUSYBOX awk '
    { text = text $0 }
    END {
        start = index(text, "\"resources\":{")
        if (!start) { print text; exit }
        end = start + length("\"resources\":{")
        for (depth = 1; depth > 0; end++) {
            char = substr(text, end, 1)
            if (char == "") exit 1
            if (escaped) escaped = 0
            else if (char == "\\") escaped = 1
            else if (char == "\"") quoted = !quoted
            else if (!quoted && char == "{") depth++
            else if (!quoted && char == "}") depth--
        }
        print substr(text, 1, start - 1) "\"resources\":{}" substr(text, end)
    }' "$bundle/config.json" > "$bundle/config.json.new" || exit 1
    BUSYBOX mv "$bundle/config.json.new" "$bundle/config.json"
fi
exec RUNTIME "$@"
"#;

/// The name of the runtime's program: `runc`, or the value of `IMAGESWAP_OCI_RUNTIME`, such as
/// `crun`.
pub(crate) fn oci_runtime() -> String {
    env::var(VARIABLE).unwrap_or_else(|_| "runc".to_owned())
}

/// Whether containers run with runc, the default.
pub(crate) fn is_default() -> bool {
    oci_runtime() == "runc" && !lacks_controllers()
}

/// The path of the runtime. If containers cannot have limits, that is a wrapper in `dir` that
/// removes them.
pub(crate) fn program(dir: &Path, without_limits: bool) -> Result<PathBuf> {
    let name = oci_runtime();
    let runtime = find(&name).ok_or_else(|| Error::Unusable(format!("{name} is not installed")))?;
    if !without_limits && !lacks_controllers() {
        return Ok(runtime);
    }
    let path = dir.join("runtime-without-limits");
    let script = WRAPPER
        .replace("BUSYBOX", BUSYBOX)
        .replace("RUNTIME", &runtime.display().to_string());
    let failed = |error| Error::io(path.display().to_string())(error);
    fs::write(&path, script).map_err(failed)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    Ok(path)
}

/// Whether cgroup v2 is mounted alone and lacks the controllers for container limits, because v1
/// hierarchies hold them.
fn lacks_controllers() -> bool {
    fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
        .is_ok_and(|controllers| !controllers.split_whitespace().any(|name| name == "cpu"))
}
