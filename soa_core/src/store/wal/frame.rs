//! The files of the write-ahead log and the frames in them (format.md, section 4.1).

use memchr::memmem;
use uuid::Uuid;

/// Begins every file.
const FILE_MAGIC: [u8; 4] = *b"SOAW";
/// Begins every frame.
const FRAME_MAGIC: [u8; 4] = *b"SOAF";
/// The version of the files that this release writes and reads.
const FILE_VERSION: u32 = 1;
pub(super) const FILE_HEADER_LEN: usize = 64;
pub(super) const FRAME_HEADER_LEN: usize = 40;
/// The most bytes of a frame's payload; what is longer is damage.
pub(super) const PAYLOAD_LEN_MAX: usize = 1 << 30;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The columns of the frames that follow, as a JSON text.
    Schema,
    /// Rows of a table without key.
    Rows,
    /// Rows of a keyed table, each in the place of one of the same key.
    Puts,
    /// Keys whose rows are gone.
    Deletes,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Schema => 0,
            Self::Rows => 1,
            Self::Puts => 2,
            Self::Deletes => 3,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::Schema, Self::Rows, Self::Puts, Self::Deletes].into_iter().find(|kind| kind.code() == code)
    }
}

/// The beginning of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub(super) lineage: Uuid,
    pub(super) number: u64,
    /// The sequence of the first frame with rows or keys.
    pub(super) first_sequence: u64,
    /// Tells it from every other file, even one that has its number later.
    pub(super) id: Uuid,
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; FILE_HEADER_LEN] {
        let mut bytes = [0; FILE_HEADER_LEN];
        bytes[..4].copy_from_slice(&FILE_MAGIC);
        bytes[4..8].copy_from_slice(&FILE_VERSION.to_le_bytes());
        bytes[8..24].copy_from_slice(self.lineage.as_bytes());
        bytes[24..32].copy_from_slice(&self.number.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[40..56].copy_from_slice(self.id.as_bytes());
        let checksum = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The header of a file, if one is there whole; an error in words if this release does not know its version.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<Self>, String> {
        let Some(bytes) = bytes.first_chunk::<FILE_HEADER_LEN>() else { return Ok(None) };
        if bytes[..4] != FILE_MAGIC || u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60]) {
            return Ok(None);
        }
        let version = u32_at(bytes, 4);
        if version != FILE_VERSION {
            return Err(format!(
                "the write-ahead log's version is {version}, which this release does not know; use a newer release"
            ));
        }
        let uuid = |at: usize| Uuid::from_bytes(std::array::from_fn(|index| bytes[at + index]));
        Ok(Some(Self { lineage: uuid(8), number: u64_at(bytes, 24), first_sequence: u64_at(bytes, 32), id: uuid(40) }))
    }
}

/// A frame in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    /// One more than that of the frame with rows or keys before; that frame's own, for a schema.
    pub(super) sequence: u64,
    pub(super) rows: u32,
    /// How many bytes of the file were known to be durable when the frame was written.
    pub(super) synced: u64,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The bytes of the frame in a file.
    pub(super) fn len(&self) -> usize {
        FRAME_HEADER_LEN + self.payload.len()
    }

    /// Fills the header in whose place `frame` has as many bytes, before the payload, with what is known before it is queued.
    pub(super) fn write_header(frame: &mut [u8], kind: Kind, rows: u32) {
        let (header, payload) = frame.split_at_mut(FRAME_HEADER_LEN);
        let payload_len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        header.fill(0);
        header[..4].copy_from_slice(&FRAME_MAGIC);
        header[4..8].copy_from_slice(&payload_len.to_le_bytes());
        header[8..12].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        header[12..16].copy_from_slice(&rows.to_le_bytes());
        header[32] = kind.code();
    }

    /// Gives a frame its place in the order of all.
    pub(super) fn number(frame: &mut [u8], sequence: u64) {
        frame[16..24].copy_from_slice(&sequence.to_le_bytes());
    }

    /// Completes frames, one behind the other, for the file that they are written to, of which so many bytes are durable.
    pub(super) fn seal(frames: &mut [u8], file: Uuid, synced: u64) {
        let mut rest = frames;
        while let Some((header, behind)) = rest.split_at_mut_checked(FRAME_HEADER_LEN) {
            header[24..32].copy_from_slice(&synced.to_le_bytes());
            let checksum = header_checksum(file, &header[..36]);
            header[36..].copy_from_slice(&checksum.to_le_bytes());
            let payload_len = usize::try_from(u32_at(header, 4)).unwrap_or(usize::MAX);
            rest = behind.get_mut(payload_len..).unwrap_or_default();
        }
    }

    /// The frame at the beginning of `bytes`, if one of the file of this id is there whole.
    pub(super) fn decode(bytes: &'a [u8], file: Uuid) -> Option<Self> {
        let header = FrameHeader::decode(bytes, file)?;
        let payload = bytes[FRAME_HEADER_LEN..].get(..header.payload_len)?;
        if crc32c::crc32c(payload) != header.payload_checksum {
            return None;
        }
        let FrameHeader { kind, sequence, rows, synced, .. } = header;
        Some(Self { kind, sequence, rows, synced, payload })
    }
}

/// What a frame says before its payload.
#[derive(Debug)]
struct FrameHeader {
    kind: Kind,
    sequence: u64,
    rows: u32,
    synced: u64,
    payload_len: usize,
    payload_checksum: u32,
}

impl FrameHeader {
    fn decode(bytes: &[u8], file: Uuid) -> Option<Self> {
        let (header, sum) = bytes.get(..FRAME_HEADER_LEN)?.split_at(36);
        if u32_at(sum, 0) == header_checksum(file, header) { Self::unchecked(header) } else { None }
    }

    fn unchecked(header: &[u8]) -> Option<Self> {
        if header[..4] != FRAME_MAGIC || header[33..36] != [0; 3] {
            return None;
        }
        Some(Self {
            kind: Kind::from_code(header[32])?,
            sequence: u64_at(header, 16),
            rows: u32_at(header, 12),
            synced: u64_at(header, 24),
            payload_len: usize::try_from(u32_at(header, 4)).ok().filter(|len| *len <= PAYLOAD_LEN_MAX)?,
            payload_checksum: u32_at(header, 8),
        })
    }
}

/// The checksum of a frame's header depends on the file, so that nothing counts as a frame that only looks like one: bytes that
/// the disk had in this place before, or a value in a row.
fn header_checksum(file: Uuid, header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(file.as_bytes()), header)
}

/// How many bytes of a file are surely durable, by what the frames say that are behind `from`, of which the first is not whole.
pub(super) fn durable_after(bytes: &[u8], from: usize, file: Uuid) -> u64 {
    let candidates = memmem::find_iter(&bytes[from..], &FRAME_MAGIC);
    let headers = candidates.filter_map(|at| FrameHeader::decode(&bytes[from + at..], file));
    headers.map(|header| header.synced).max().unwrap_or(0)
}

/// Whether a file without a whole header seems to have frames after `sequence`. A file is made whole before it gets any: then
/// its header is damaged. (What belongs to it cannot be told without its id; so what looks like a frame counts.)
pub(super) fn has_frames(bytes: &[u8], sequence: u64) -> bool {
    let mut candidates = memmem::find_iter(bytes, &FRAME_MAGIC);
    candidates.any(|at| {
        let header = bytes[at..].get(..FRAME_HEADER_LEN).and_then(FrameHeader::unchecked);
        header.is_some_and(|header| header.kind != Kind::Schema && header.sequence > sequence)
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
