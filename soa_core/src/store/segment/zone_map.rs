//! Zone maps: per record batch and column, bounds, NULL count and checksum (format.md, section 3.2).

use crate::predicate::{Bounds, Scalar, prefix_end};
use crate::schema::DataType;
use crate::store::stats::ColumnStats;

const MAGIC: &[u8; 4] = b"SOAZ";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 16;
const ENTRY_LEN: usize = 48;
const BOUND_LEN: usize = 16;
const HAS_MIN: u8 = 1;
const HAS_MAX: u8 = 2;
const HAS_NAN: u8 = 4;

/// One column of one record batch.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Zone {
    pub(super) stats: ColumnStats,
    /// CRC-32C of the column's buffers.
    pub(super) checksum: u32,
}

impl Zone {
    pub(super) fn bounds(&self, rows: u64) -> Bounds {
        Bounds {
            rows,
            nulls: Some(self.stats.nulls),
            min: self.stats.min.clone(),
            max: self.stats.max.clone(),
            may_hold_nan: self.stats.has_nan,
        }
    }
}

/// The zones of a file: `zones[batch * columns + column]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ZoneMap {
    pub(super) columns: usize,
    pub(super) zones: Vec<Zone>,
}

impl ZoneMap {
    pub(super) fn get(&self, batch: usize, column: usize) -> &Zone {
        &self.zones[batch * self.columns + column]
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let batches = self.zones.len() / self.columns.max(1);
        let mut out = Vec::with_capacity(HEADER_LEN + self.zones.len() * ENTRY_LEN + 4);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&length(batches).to_le_bytes());
        out.extend_from_slice(&length(self.columns).to_le_bytes());
        for zone in &self.zones {
            out.extend_from_slice(&encode_zone(zone));
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Reads what [`encode`](Self::encode) wrote, for columns of these types.
    pub(super) fn decode(bytes: &[u8], types: &[&DataType]) -> Result<Self, String> {
        let (content, checksum) = bytes.split_last_chunk::<4>().ok_or("its zone maps are cut short")?;
        if crc32c::crc32c(content) != u32::from_le_bytes(*checksum) {
            return Err("its zone maps do not match their checksum".into());
        }
        let word =
            |at: usize| content.get(at..at + 4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        let (Some(version), Some(batches), Some(columns)) = (word(4), word(8), word(12)) else {
            return Err("its zone maps are cut short".into());
        };
        if &content[..4] != MAGIC || version != VERSION {
            return Err(format!("its zone maps are of version {version}, which this release does not know"));
        }
        let (entries, rest) = content[HEADER_LEN..].as_chunks::<ENTRY_LEN>();
        if columns as usize != types.len() || entries.len() != batches as usize * types.len() || !rest.is_empty() {
            return Err("its zone maps do not fit its columns".into());
        }
        let zones = entries
            .iter()
            .zip(types.iter().cycle())
            .map(|(entry, data_type)| decode_zone(entry, data_type).ok_or("a zone map has a bound that is none"))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { columns: types.len(), zones })
    }
}

/// Counts of batches and columns are far below 2^32: a segment has at most 16 batches.
fn length(len: usize) -> u32 {
    u32::try_from(len).expect("a file has fewer than 2^32 batches and columns")
}

fn encode_zone(zone: &Zone) -> [u8; ENTRY_LEN] {
    let mut entry = [0; ENTRY_LEN];
    if zone.stats.has_nan {
        entry[0] |= HAS_NAN;
    }
    let mut put = |bound: &Option<Scalar>, is_max: bool, flag: u8, len_at: usize, at: usize| {
        if let Some((bytes, len)) = bound.as_ref().and_then(|bound| encode_bound(bound, is_max)) {
            entry[0] |= flag;
            entry[len_at] = len;
            entry[at..at + BOUND_LEN].copy_from_slice(&bytes);
        }
    };
    put(&zone.stats.min, false, HAS_MIN, 1, 16);
    put(&zone.stats.max, true, HAS_MAX, 2, 32);
    // A record batch has at most 122,880 rows.
    let nulls = u32::try_from(zone.stats.nulls).expect("a batch has fewer than 2^32 rows");
    entry[4..8].copy_from_slice(&nulls.to_le_bytes());
    entry[8..12].copy_from_slice(&zone.checksum.to_le_bytes());
    entry
}

fn encode_bound(bound: &Scalar, is_max: bool) -> Option<([u8; BOUND_LEN], u8)> {
    let prefix = |bytes: &[u8]| -> Option<([u8; BOUND_LEN], u8)> {
        let mut out = [0; BOUND_LEN];
        let mut len = bytes.len().min(BOUND_LEN);
        out[..len].copy_from_slice(&bytes[..len]);
        if is_max && bytes.len() > BOUND_LEN {
            // Round up: the last byte that can be raised is, and those after it are dropped.
            while len > 0 && out[len - 1] == u8::MAX {
                len -= 1;
                out[len] = 0;
            }
            if len == 0 {
                return None;
            }
            out[len - 1] += 1;
        }
        Some((out, u8::try_from(len).ok()?))
    };
    match bound {
        Scalar::Bool(value) => Some((i128::from(*value).to_le_bytes(), 0)),
        Scalar::Int(value) => Some((value.to_le_bytes(), 0)),
        Scalar::Float(value) => {
            let mut out = [0; BOUND_LEN];
            out[..8].copy_from_slice(&value.to_bits().to_le_bytes());
            Some((out, 0))
        }
        Scalar::Utf8(text) => prefix(text.as_bytes()),
        Scalar::Binary(bytes) => prefix(bytes),
    }
}

fn decode_zone(entry: &[u8; ENTRY_LEN], data_type: &DataType) -> Option<Zone> {
    let word = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
    let bound = |flag: u8, len: u8, at: usize, is_max: bool| -> Option<Option<Scalar>> {
        if entry[0] & flag == 0 {
            return Some(None);
        }
        let bytes: [u8; BOUND_LEN] = entry[at..at + BOUND_LEN].try_into().ok()?;
        decode_bound(bytes, usize::from(len), data_type, is_max)
    };
    let min = bound(HAS_MIN, entry[1], 16, false)?;
    let max = bound(HAS_MAX, entry[2], 32, true)?;
    let stats = ColumnStats { nulls: word(4).into(), min, max, has_nan: entry[0] & HAS_NAN != 0 };
    Some(Zone { stats, checksum: word(8) })
}

/// `Some(None)` where the bytes are a bound that cannot be expressed; `None` where they are none at all.
fn decode_bound(bytes: [u8; BOUND_LEN], len: usize, data_type: &DataType, is_max: bool) -> Option<Option<Scalar>> {
    let int = i128::from_le_bytes(bytes);
    Some(match data_type {
        DataType::Bool => Some(Scalar::Bool(int != 0)),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Decimal { .. }
        | DataType::Date
        | DataType::Timestamp { .. }
        | DataType::Time
        | DataType::Duration => Some(Scalar::Int(int)),
        DataType::Float32 | DataType::Float64 => {
            let bits: [u8; 8] = bytes[..8].try_into().ok()?;
            Some(Scalar::Float(f64::from_bits(u64::from_le_bytes(bits))))
        }
        DataType::Binary | DataType::Uuid => Some(Scalar::Binary(bytes.get(..len)?.to_vec())),
        // Values inside others have no bounds.
        DataType::List(_) | DataType::FixedList(..) | DataType::Struct(_) | DataType::Map { .. } => return None,
        DataType::Utf8 | DataType::Enum(_) => text_bound(bytes.get(..len)?, is_max).map(Scalar::Utf8),
    })
}

/// The nearest text outside a bound that was cut in the middle of a character.
fn text_bound(bytes: &[u8], is_max: bool) -> Option<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text.to_owned()),
        // The part before is a prefix, thus not above.
        Err(error) if !is_max => Some(String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned()),
        // Above: what no text that begins with that prefix reaches.
        Err(error) => prefix_end(&String::from_utf8_lossy(&bytes[..error.valid_up_to()])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(min: Option<Scalar>, max: Option<Scalar>) -> Zone {
        Zone { stats: ColumnStats { nulls: 3, min, max, has_nan: false }, checksum: 7 }
    }

    fn round_trip(zone: Zone, data_type: &DataType) -> Zone {
        let map = ZoneMap { columns: 1, zones: vec![zone] };
        ZoneMap::decode(&map.encode(), &[data_type]).unwrap().zones.remove(0)
    }

    #[test]
    fn exact_bounds_come_back() {
        let ints = zone(Some(Scalar::Int(-5)), Some(Scalar::Int(i128::from(u64::MAX))));
        assert_eq!(round_trip(ints.clone(), &DataType::UInt64), ints);
        let floats = zone(Some(Scalar::Float(f64::NEG_INFINITY)), Some(Scalar::Float(0.0)));
        assert_eq!(round_trip(floats.clone(), &DataType::Float64), floats);
        let text = zone(Some(Scalar::Utf8(String::new())), Some(Scalar::Utf8("ende".into())));
        assert_eq!(round_trip(text.clone(), &DataType::Utf8), text);
        let none = zone(None, None);
        assert_eq!(round_trip(none.clone(), &DataType::Utf8), none);
    }

    #[test]
    fn long_bounds_are_cut_outwards() {
        for long in ["aaaaaaaaaaaaaaaaaaaaaaaa", "äääääääääääääääää", "aaaaaaaaaaaaaaa€uro", "日本語日本語日本語"]
        {
            let cut =
                round_trip(zone(Some(Scalar::Utf8(long.into())), Some(Scalar::Utf8(long.into()))), &DataType::Utf8);
            let (Some(Scalar::Utf8(min)), Some(Scalar::Utf8(max))) = (cut.stats.min, cut.stats.max) else {
                panic!("{long}")
            };
            assert!(min.as_str() <= long && !min.is_empty(), "{min} {long}");
            assert!(max.as_str() > long, "{max} {long}");
        }
        let top = vec![255; 40];
        let cut = round_trip(zone(None, Some(Scalar::Binary(top))), &DataType::Binary);
        assert_eq!(cut.stats.max, None);
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let map = ZoneMap { columns: 1, zones: vec![zone(Some(Scalar::Int(1)), Some(Scalar::Int(2)))] };
        let bytes = map.encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(ZoneMap::decode(&damaged, &[&DataType::Int64]).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(ZoneMap::decode(&bytes[..len], &[&DataType::Int64]).is_err(), "length {len}");
        }
    }
}
