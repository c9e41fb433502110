//! `FROM 'orders.soa'`: a table name that ends like a store is a store.

use duckdb_neo::ToValue;
use duckdb_neo::connection::Context;
use duckdb_neo::extension::Extension;
use duckdb_neo::qualified_name::QualifiedName;
use duckdb_neo::replacement_scan::{
    ReplacementHandle, ReplacementScanBuilder, ReplacementScanCallbacks, ReplacementType,
};

use crate::error::{Result, Step, guard};
use crate::scan;

/// How the name of a store's folder ends; letter case does not matter.
const EXTENSION: &str = ".soa";

/// Registers the names.
pub(crate) fn register(extension: &Extension) -> Result<()> {
    ReplacementScanBuilder::new(SoaNames).register(extension)
}

struct SoaNames;

impl ReplacementScanCallbacks for SoaNames {
    fn scan(&self, context: &Context, name: &QualifiedName, handle: ReplacementHandle<'_>) -> Result<()> {
        guard(scan::NAME, Step::Replacement, || {
            // An unquoted name was taken apart at its dots: FROM orders.soa.
            let path = name.parts()?.join(".");
            let Some(alias) = alias_of(&path) else { return Ok(()) };
            handle.set_reference(ReplacementType::Table(QualifiedName::from_parts(&[scan::NAME])?))?;
            handle.add_parameter(path.value(context)?)?;
            handle.set_alias(alias)
        })
    }
}

/// The name by which a query can refer to the table: that of the folder, without its ending. `None` if the path does
/// not end like a store.
fn alias_of(path: &str) -> Option<&str> {
    let folder = path.trim_end_matches('/');
    let stem = folder.len().checked_sub(EXTENSION.len())?;
    let ending = folder.get(stem..)?;
    if !ending.eq_ignore_ascii_case(EXTENSION) {
        return None;
    }
    folder[..stem].rsplit('/').next().filter(|alias| !alias.is_empty())
}

#[cfg(test)]
mod tests {
    use super::alias_of;

    #[test]
    fn a_store_is_known_by_its_ending() {
        assert_eq!(alias_of("orders.soa"), Some("orders"));
        assert_eq!(alias_of("/data/orders.soa/"), Some("orders"));
        assert_eq!(alias_of("ORDERS.SOA"), Some("ORDERS"));
        assert_eq!(alias_of("/data/größe.soa"), Some("größe"));
        assert_eq!(alias_of("orders.soap"), None);
        assert_eq!(alias_of("orders"), None);
        assert_eq!(alias_of("soa"), None);
        assert_eq!(alias_of("/data/.soa"), None);
        assert_eq!(alias_of("größe"), None);
    }
}
