//! What the derives refuse, as the compiler says it: for each file of `tests/refused` the errors, where they are and what
//! they say. `SOA_BLESS=1` writes what they say now.

use std::collections::HashSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::package;

fn folder() -> PathBuf {
    package().join("tests/refused")
}

/// Where cargo keeps what this test is linked with.
fn dependencies() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}

/// The crate as this test is linked with it: of those that were built with other features, or before, the last one.
fn soa_core() -> PathBuf {
    let of_the_crate = |path: &Path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("libsoa_core-") && name.ends_with(".rlib")
    };
    let built = |path: &PathBuf| fs::metadata(path).unwrap().modified().unwrap();
    let found = fs::read_dir(dependencies()).unwrap().map(|entry| entry.unwrap().path());
    found.filter(|path| of_the_crate(path)).max_by_key(built).expect("the crate was built for this test")
}

/// What the compiler says of a file, error by error.
fn compiled(name: &str) -> (bool, Vec<Value>) {
    let out = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "--error-format=json", "--cap-lints=allow"])
        .arg("--out-dir")
        .arg(out.path())
        .arg("-L")
        .arg(format!("dependency={}", dependencies().display()))
        .arg("--extern")
        .arg(format!("soa_core={}", soa_core().display()))
        .arg(folder().join(name))
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stderr).unwrap();
    let said = lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{lines}")));
    (output.status.success(), said.filter(|said: &Value| said["level"] == "error").collect())
}

/// An error in words that the compiler's layout has no part in: where, which code, what is said, and the notes.
fn shown(error: &Value, file: &str) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut shown = String::new();
    for span in error["spans"].as_array().unwrap().iter().filter(|span| span["is_primary"] == true) {
        let line = &span["text"][0];
        // What the compiler finds in the generated code follows from what it says at the field.
        let in_derive = !error["code"].is_null() && text(&line["text"]).trim_start().starts_with("#[derive");
        if in_derive || !text(&span["file_name"]).ends_with(file) {
            continue;
        }
        let marked = || {
            let (from, to) = (line["highlight_start"].as_u64()? as usize, line["highlight_end"].as_u64()? as usize);
            Some(line["text"].as_str()?.chars().skip(from - 1).take(to - from).collect::<String>())
        };
        let marked = marked().unwrap_or_default();
        writeln!(shown, "{}:{} {marked}", span["line_start"], span["column_start"]).unwrap();
        let code = error["code"]["code"].as_str().map(|code| format!("{code}: ")).unwrap_or_default();
        writeln!(shown, "  {code}{}", text(&error["message"])).unwrap();
        if let Some(label) = span["label"].as_str() {
            writeln!(shown, "  ^ {label}").unwrap();
        }
    }
    if shown.is_empty() {
        return shown;
    }
    for note in error["children"].as_array().unwrap() {
        // Notes with a place are the compiler's own, as is the one about macros.
        let message = text(&note["message"]);
        let ours = note["level"] == "note" && note["spans"].as_array().is_some_and(Vec::is_empty);
        if ours && !message.starts_with("this error originates") {
            writeln!(shown, "  = {message}").unwrap();
        }
    }
    shown
}

#[track_caller]
fn check(name: &str) {
    let file = format!("{name}.rs");
    let (success, errors) = compiled(&file);
    assert!(!success, "{file} must not compile");
    // What follows from a wrong type is said again in other places: the first one counts.
    let mut said = HashSet::new();
    let mut first = |error: &Value| error["code"].is_null() || said.insert(error["message"].to_string());
    // The last errors, which only count the others, are nowhere.
    let placed = errors.iter().map(|error| (error, shown(error, &file))).filter(|(_, shown)| !shown.is_empty());
    let shown: Vec<String> = placed.filter(|(error, _)| first(error)).map(|(_, shown)| shown).collect();
    let shown = shown.join("\n");
    let path = folder().join(name).with_extension("expected");
    if std::env::var_os("SOA_BLESS").is_some() {
        fs::write(&path, &shown).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap();
    assert!(shown == expected, "{} says otherwise; now it is:\n{shown}", path.display());
}

#[test]
fn the_right_twin_compiles() {
    let (success, errors) = compiled("right.rs");
    assert!(success, "{errors:#?}");
}

#[test]
fn structs_are_refused_where_they_are_wrong() {
    check("structs");
}

#[test]
fn enums_are_refused_where_they_are_wrong() {
    check("enums");
}

#[test]
fn stores_are_refused_where_they_are_wrong() {
    check("stores");
}

#[test]
fn types_are_refused_where_they_are_wrong() {
    check("types");
}

#[test]
fn keys_and_bounds_are_refused_where_they_are_wrong() {
    check("bounds");
}
