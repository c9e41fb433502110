//! Paths within a store, as the log writes them.

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// Where the log is.
pub(super) const LOG_DIR: &str = "_delta_log";
/// Where everything is that other readers of Delta Lake ignore.
pub(super) const OWN_DIR: &str = "_soa";
/// Where the Arrow forms are.
pub(super) const ARROW_DIR: &str = "_soa/arrow";

/// Where the key indexes are.
pub(super) const KEY_DIR: &str = "_soa/key";
/// Where the write-ahead log is.
pub(super) const WAL_DIR: &str = "_soa/wal";

/// The log file of a version.
pub(super) fn commit_path(root: &Path, version: u64) -> PathBuf {
    root.join(LOG_DIR).join(format!("{version:020}.json"))
}

/// The path of a file that the log names, relative to the store: decoded and checked.
///
/// The log may have been written by anyone, so its paths are trusted no more than a user's.
///
/// # Errors
///
/// When the path is absolute, a URL, or leaves the store.
pub(super) fn decode(root: &Path, logged: &str) -> Result<String> {
    let refuse = |why: &str| {
        Err(Error::damaged(
            root.join(LOG_DIR),
            format!("it names the file \"{logged}\", which {why}; such a path is not followed"),
        ))
    };
    let Some(decoded) = percent_decode(logged) else { return refuse("is not a percent-encoded path") };
    if decoded.is_empty() || decoded.contains('\0') {
        return refuse("is no file's path");
    }
    if logged.split('/').next().is_some_and(|first| first.contains(':')) {
        return refuse("is a URL");
    }
    let normal = Path::new(&decoded).components().all(|component| matches!(component, Component::Normal(_)));
    if !normal {
        return refuse("leaves the store's folder");
    }
    Ok(decoded)
}

/// Refuses a file of the store that is reached through a link out of the store's folder.
///
/// # Errors
///
/// When the file, links resolved, is not below the folder.
pub(super) fn check_inside(root: &Path, file: &Path) -> Result<()> {
    let Ok(resolved) = file.canonicalize() else { return Ok(()) };
    let inside = root.canonicalize().is_ok_and(|root| resolved.starts_with(root));
    if inside {
        return Ok(());
    }
    Err(Error::damaged(file, "it is a link that leaves the store's folder; such a link is not followed"))
}

/// A relative path as the log writes it: percent-encoded where a URL's path must be.
pub(super) fn encode(relative: &str) -> String {
    percent_encode(relative, |byte| byte.is_ascii_alphanumeric() || b"/-_.~=+,@!$&'()*".contains(&byte))
}

/// The folder of a partition: `column=value`, each value's special characters percent-encoded.
pub(super) fn partition_dir(values: &[(String, Option<String>)]) -> String {
    let mut dir = String::new();
    for (column, value) in values {
        let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~+@ ".contains(&byte) || byte >= 0x80;
        dir.push_str(&percent_encode(column, keep));
        dir.push('=');
        dir.push_str(
            &value.as_ref().map_or("__HIVE_DEFAULT_PARTITION__".to_owned(), |value| percent_encode(value, keep)),
        );
        dir.push('/');
    }
    dir
}

/// Bytes above 127 are kept only where they are kept all, so that the result is UTF-8.
fn percent_encode(text: &str, keep: impl Fn(u8) -> bool) -> String {
    let mut encoded = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        if keep(byte) {
            encoded.push(byte);
        } else {
            encoded.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    String::from_utf8(encoded).expect("kept bytes above 127 are whole characters")
}

fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_store_are_refused() {
        let root = Path::new("/data/orders.soa");
        for bad in
            ["/etc/passwd", "../x", "a/../../x", "%2e%2e/x", "file:///etc/passwd", "s3://b/x", "", "a%00b", "%zz", "."]
        {
            let error = decode(root, bad).unwrap_err().to_string();
            assert!(error.contains(&format!("\"{bad}\"")), "{error}");
        }
        assert_eq!(decode(root, "part-1.parquet").unwrap(), "part-1.parquet");
        assert_eq!(decode(root, "a%20b/p%C3%A4rt.parquet").unwrap(), "a b/pärt.parquet");
    }

    #[test]
    fn partition_folders_survive_the_log() {
        let values = [("status".to_owned(), Some("a/b c=ü%:".to_owned())), ("n".to_owned(), None)];
        let relative = format!("{}part.parquet", partition_dir(&values));
        assert_eq!(relative, "status=a%2Fb c%3Dü%25%3A/n=__HIVE_DEFAULT_PARTITION__/part.parquet");
        assert_eq!(decode(Path::new("/x"), &encode(&relative)).unwrap(), relative);
    }
}
