//! The OCI configuration of a Pod's sandbox, as containerd's CRI plugin makes it.
//!
//! A sandbox runs the command of its image, and has the same few mounts under every Pod. Any client of
//! containerd can make the container of a sandbox again, with another command and with volumes.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::bundle::ROOTFS;

/// The label of containerd's CRI plugin on its containers: `container` or `sandbox`.
pub(crate) const KIND: &str = "io.cri-containerd.kind";

/// The kind of a sandbox.
pub(crate) const SANDBOX: &str = "sandbox";

/// The configuration of a real sandbox has about 6 KB.
pub(crate) const LARGEST: u64 = 1 << 20;

/// It has about 1,000 values with seccomp rules. A short value takes many times its text in memory.
const MOST_VALUES: usize = 1 << 12;

/// The mounts of a sandbox: where, and of which type. The plugin of containerd 1.6 leaves the
/// default `/dev/shm` below its own.
const MOUNTS: [(&str, &str); 10] = [
    ("/proc", "proc"),
    ("/dev", "tmpfs"),
    ("/dev/pts", "devpts"),
    ("/dev/shm", "tmpfs"),
    ("/dev/shm", BIND),
    ("/dev/mqueue", "mqueue"),
    ("/sys", "sysfs"),
    ("/sys/fs/cgroup", "cgroup"),
    ("/run", "tmpfs"),
    ("/etc/resolv.conf", BIND),
];
const BIND: &str = "bind";

/// Hooks that run in the container. The others run on the node, as root.
const HOOKS_INSIDE: [&str; 2] = ["createcontainer", "startcontainer"];

/// Where an OCI configuration was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// containerd's record. The CRI plugin never gives a sandbox a hook.
    Record,
    /// The bundle, where an OCI runtime may have added hooks that run on the node, as NVIDIA's does.
    Bundle,
}

/// Whether these labels in containerd are those of a sandbox.
pub(crate) fn is_sandbox(labels: &BTreeMap<String, String>) -> bool {
    labels.get(KIND).is_some_and(|kind| kind == SANDBOX)
}

/// The command of a sandbox, from the JSON of its OCI configuration. `None` if the configuration is
/// not understood, or has a root, a mount or a hook that the CRI plugin does not give a sandbox.
pub(crate) fn command(json: &[u8], place: Place) -> Option<Vec<String>> {
    if u64::try_from(json.len()).is_ok_and(|length| length > LARGEST) {
        return None;
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    let mut left = MOST_VALUES;
    let spec = Exact(&mut left).deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    let list = |value: &Value| match value {
        Value::Null => Some(Vec::new()),
        value => value.as_array().cloned(),
    };
    let mounts = list(&spec["mounts"])?;
    let hooks = match &spec["hooks"] {
        Value::Null => None,
        hooks => Some(hooks.as_object()?),
    };
    let mut hooks = hooks.into_iter().flatten();
    let has_none = |(name, hooks): (&String, &Value)| {
        let may_have = place == Place::Bundle && !HOOKS_INSIDE.contains(&&**name);
        may_have || list(hooks).is_some_and(|hooks| hooks.is_empty())
    };
    let is_plain =
        spec["root"]["path"] == ROOTFS && mounts.iter().all(is_own) && hooks.all(has_none);
    let text = |arg: &Value| arg.as_str().map(str::to_owned);
    let args = spec["process"]["args"].as_array()?;
    let args: Option<Vec<String>> = args.iter().map(text).collect();
    args.filter(|args| is_plain && !args.is_empty())
}

fn is_own(mount: &Value) -> bool {
    let text = |key: &str| mount[key].as_str().unwrap_or_default();
    let options = mount["options"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    // With such an option every type is a bind mount.
    let binds = options
        .iter()
        .any(|option| option == BIND || option == "rbind");
    let kind = if binds { BIND } else { text("type") };
    MOUNTS.contains(&(text("destination"), kind))
}

/// JSON that every reader understands in the same way. The runtimes' readers ignore the case of
/// keys and merge keys that occur twice, so the keys are in lower case and occur once. No more
/// values than are left.
struct Exact<'l>(&'l mut usize);

impl<'de> DeserializeSeed<'de> for Exact<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.0.checked_sub(1);
        *self.0 = left.ok_or_else(|| D::Error::custom("too many values"))?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Exact<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with unique keys")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Exact(self.0))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = serde_json::Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(Exact(self.0))?;
            // Some letters beyond ASCII are equal to ASCII ones if the case is ignored.
            let is_ascii = key.is_ascii();
            let known = object.insert(key.to_ascii_lowercase(), value);
            if !is_ascii || known.is_some() {
                return Err(A::Error::custom("a key occurs twice, or is not ASCII"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As containerd's CRI plugin makes it, shortened.
    fn plain() -> Value {
        let folder = "/io.containerd.grpc.v1.cri/sandboxes/1f2e";
        json!({
            "ociVersion": "1.1.0",
            "process": {"user": {"uid": 65535}, "args": ["/pause"], "cwd": "/"},
            "root": {"path": "rootfs", "readonly": true},
            "hostname": "web",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts"},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm"},
                {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
                {"destination": "/dev/shm", "type": "bind",
                    "source": format!("/run/containerd{folder}/shm"), "options": ["rbind", "ro"]},
                {"destination": "/etc/resolv.conf", "type": "bind",
                    "source": format!("/var/lib/containerd{folder}/resolv.conf"), "options": ["rbind", "ro"]}
            ],
            "annotations": {"io.kubernetes.cri.container-type": "sandbox"}
        })
    }

    fn of(spec: &Value) -> [Option<Vec<String>>; 2] {
        [Place::Record, Place::Bundle].map(|place| command(spec.to_string().as_bytes(), place))
    }

    #[test]
    fn the_configuration_of_the_cri_plugin_is_plain() {
        let pause = Some(vec!["/pause".to_owned()]);
        assert_eq!(of(&plain()), [pause.clone(), pause.clone()]);
        let mut spec = plain();
        spec["mounts"] = Value::Null;
        spec["hooks"] = json!({"prestart": [], "startContainer": null});
        assert_eq!(of(&spec), [pause.clone(), pause.clone()]);
        spec["hooks"] = Value::Null;
        spec["linux"] = json!(vec![0; 3 * MOST_VALUES / 4]);
        assert_eq!(of(&spec), [pause.clone(), pause]);
    }

    #[test]
    fn only_a_runtime_adds_hooks_that_run_on_the_node() {
        let mut spec = plain();
        for name in [
            "prestart",
            "createRuntime",
            "poststart",
            "poststop",
            "future",
        ] {
            spec["hooks"] = json!({name: [{"path": "/usr/bin/hook"}], "startContainer": []});
            assert_eq!(of(&spec), [None, Some(vec!["/pause".to_owned()])], "{name}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        let mount = |destination: &str, kind: &str, options: Value| {
            let mut spec = plain();
            let more = json!({"destination": destination, "type": kind, "source": "/evil", "options": options});
            spec["mounts"].as_array_mut().unwrap().push(more);
            spec
        };
        let with = |place: &str, value: Value| {
            let mut spec = plain();
            let (above, key) = place.rsplit_once('/').unwrap();
            spec.pointer_mut(above).unwrap()[key] = value;
            spec
        };
        for (what, spec) in [
            ("a volume", mount("/evil", "bind", json!(["rbind", "ro"]))),
            (
                "a volume over the program",
                mount("/pause", "bind", json!([])),
            ),
            (
                "another path to it",
                mount("/dev/../pause", "bind", json!([])),
            ),
            (
                "a volume of another type",
                mount("/evil", "overlay", json!(["lowerdir=/evil"])),
            ),
            (
                "a volume by its option",
                mount("/proc", "proc", json!(["bind"])),
            ),
            ("a volume over all", mount("/", "tmpfs", json!([]))),
            ("another root", with("/root/path", json!("/evil"))),
            ("no root", with("/root/path", Value::Null)),
            (
                "a hook",
                with("/hooks", json!({"startContainer": [{"path": "/evil"}]})),
            ),
            (
                "a hook, in other case",
                with("/hooks", json!({"STARTCONTAINER": [{"path": "/evil"}]})),
            ),
            (
                "hooks that are not understood",
                with("/hooks", json!({"createContainer": {}})),
            ),
            ("hooks of another type", with("/hooks", json!([]))),
            ("mounts in other case", with("/Mounts", json!([]))),
            (
                "arguments in other case",
                with("/process/ARGS", json!(["/evil"])),
            ),
            ("no arguments", with("/process/args", json!([]))),
            (
                "arguments of another type",
                with("/process/args", json!(["/pause", 1])),
            ),
            (
                "letters that look like ASCII",
                with("/mount\u{17f}", json!([])),
            ),
            ("too long", with("/hostname", json!("a".repeat(1 << 20)))),
            (
                "too many values",
                with("/hostname", json!(vec![0; MOST_VALUES])),
            ),
        ] {
            assert_eq!(of(&spec), [None, None], "{what}");
        }
        let twice =
            plain()
                .to_string()
                .replacen('{', r#"{"hooks":{"startContainer":[{}]},"hooks":{},"#, 1);
        for json in [&*twice, "{}", "[]", ""] {
            assert_eq!(command(json.as_bytes(), Place::Bundle), None, "{json}");
        }
    }
}
