//! The schemas of other programs' formats, from their packages. They are kept in the cache folder.

use serde_json::Value;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A package of PyPI that has the schemas of CI files.
const CHECK_JSONSCHEMA: &str = "check-jsonschema==0.39.0";
/// A crate that has the schema of SARIF.
const SERDE_SARIF: &str = "0.8.0";
/// The program that reads the file of hooks.
const PRE_COMMIT: &str = "pre-commit==4.7.0";

fn folder() -> Result<PathBuf, String> {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache")));
    let folder = cache.ok_or("no cache folder")?.join("imageswap/schemas");
    fs::create_dir_all(&folder).map_err(|it| format!("{}: {it}", folder.display()))?;
    Ok(folder)
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|it| format!("{command:?}: {it}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("{command:?}: {why}"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn read(path: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|it| format!("{}: {it}", path.display()))?;
    serde_json::from_str(&text).map_err(|it| format!("{}: {it}", path.display()))
}

/// A file of the cache, which `make` writes into a folder of its own if it is missing.
fn kept(
    name: &str,
    make: impl FnOnce(&Path) -> Result<PathBuf, String>,
) -> Result<PathBuf, String> {
    let path = folder()?.join(name);
    if !path.exists() {
        let work = tempfile::tempdir().map_err(|it| it.to_string())?;
        let source = make(work.path())?;
        // Several tests may do this at once.
        let part = folder()?.join(format!("{name}.{}", std::process::id()));
        run(Command::new("cp").arg("-R").arg(&source).arg(&part))?;
        if fs::rename(&part, &path).is_err() {
            drop(run(Command::new("rm").arg("-rf").arg(&part)));
        }
    }
    Ok(path)
}

/// The schema of a CI file: `github-workflows` or `gitlab-ci`.
pub(crate) fn ci(name: &str) -> Result<Value, String> {
    let path = kept(&format!("{name}.json"), |work| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps"])
            .args(["--only-binary", ":all:", "--disable-pip-version-check"])
            .arg("--dest")
            .arg(work)
            .arg(CHECK_JSONSCHEMA);
        run(&mut pip)?;
        let wheels = fs::read_dir(work).map_err(|it| it.to_string())?;
        for wheel in wheels.flatten() {
            let mut unzip = Command::new("python3");
            unzip
                .args(["-m", "zipfile", "-e"])
                .arg(wheel.path())
                .arg(work);
            run(&mut unzip)?;
        }
        let schemas = work.join("check_jsonschema/builtin_schemas/vendor");
        Ok(schemas.join(format!("{name}.json")))
    })?;
    read(&path)
}

/// The schema of SARIF 2.1.0.
pub(crate) fn sarif() -> Result<Value, String> {
    let path = kept("sarif-2.1.0.json", |work| {
        let manifest = work.join("Cargo.toml");
        let text = format!(
            "[package]\nname = \"schemas\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
             [lib]\npath = \"lib.rs\"\n[workspace]\n[dependencies]\nserde-sarif = \"={SERDE_SARIF}\"\n"
        );
        fs::write(&manifest, text).map_err(|it| it.to_string())?;
        fs::write(work.join("lib.rs"), "").map_err(|it| it.to_string())?;
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo
            .args(["metadata", "--format-version", "1", "--manifest-path"])
            .arg(&manifest);
        let metadata: Value =
            serde_json::from_str(&run(&mut cargo)?).map_err(|it| it.to_string())?;
        let packages = metadata["packages"].as_array().into_iter().flatten();
        let mut of_crate = packages.filter(|it| it["name"] == "serde-sarif");
        let manifest = of_crate.next().and_then(|it| it["manifest_path"].as_str());
        let manifest = manifest.ok_or("the crate serde-sarif is not there")?;
        Ok(Path::new(manifest)
            .with_file_name("src")
            .join("schema.json"))
    })?;
    let mut schema = read(&path)?;
    // Brackets of this pattern do not match, which validators refuse; our reports do not have the
    // field.
    for of in ["run", "toolComponent"] {
        let language = schema.pointer_mut(&format!("/definitions/{of}/properties/language"));
        let language = language.and_then(Value::as_object_mut);
        language
            .ok_or("the schema has no language")?
            .remove("pattern");
    }
    Ok(schema)
}

/// GitLab's own check of one finding of a code quality report, and what its documentation adds.
pub(crate) fn code_quality() -> Value {
    serde_json::json!({
        "type": "array",
        "items": {
            "type": "object",
            "required": ["description", "check_name", "fingerprint", "severity", "location"],
            "properties": {
                "description": {"type": "string", "minLength": 1},
                "check_name": {"type": "string", "minLength": 1},
                "fingerprint": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
                "severity": {"enum": ["info", "minor", "major", "critical", "blocker"]},
                "location": {
                    "type": "object",
                    "required": ["path", "lines"],
                    "properties": {
                        // Relative to the repository, without `./`.
                        "path": {"type": "string", "pattern": "^[^/.]"},
                        "lines": {
                            "type": "object",
                            "required": ["begin"],
                            "properties": {"begin": {"type": "integer", "minimum": 1}},
                        },
                    },
                },
            },
            "additionalProperties": false,
        },
    })
}

/// Has pre-commit read a file of hooks.
pub(crate) fn pre_commit(command: &str, file: &Path) -> Result<(), String> {
    let modules = kept("pre-commit-4.7.0", |work| {
        let modules = work.join("modules");
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ])
        .args(["--root-user-action", "ignore", "--target"])
        .arg(&modules)
        .arg(PRE_COMMIT);
        run(&mut pip)?;
        Ok(modules)
    })?;
    let mut program = Command::new("python3");
    program
        .args(["-m", "pre_commit", command])
        .arg(file)
        .env("PYTHONPATH", modules);
    run(&mut program).map(drop)
}

/// Panics if a value is not what its schema says.
pub(crate) fn assert_valid(schema: &Value, value: &Value) {
    let validator = jsonschema::validator_for(schema).expect("the schema is sound");
    let errors: Vec<_> = validator
        .iter_errors(value)
        .map(|it| format!("{}: {it}", it.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}\n{value:#}");
}
