-- The extension soa_fdw.
\echo Use "CREATE EXTENSION soa_fdw" to load this file. \quit

CREATE FUNCTION soa_fdw_handler() RETURNS fdw_handler
    AS 'MODULE_PATHNAME', 'soa_fdw_handler'
    LANGUAGE c STRICT;

CREATE FUNCTION soa_fdw_validator(text[], oid) RETURNS void
    AS 'MODULE_PATHNAME', 'soa_fdw_validator'
    LANGUAGE c STRICT;

CREATE FOREIGN DATA WRAPPER soa_fdw
    HANDLER soa_fdw_handler
    VALIDATOR soa_fdw_validator;

COMMENT ON FOREIGN DATA WRAPPER soa_fdw IS 'reads SoA stores in place, and changes them';

-- What is told of the store behind a foreign table to whoever may select from it, and what its owner may have done for it.

CREATE SCHEMA soa;
GRANT USAGE ON SCHEMA soa TO PUBLIC;

CREATE FUNCTION soa.schema(store regclass)
    RETURNS TABLE (column_name text, column_type text, is_nullable boolean, is_key boolean, partition_position bigint,
                   sort_position bigint, variants text[])
    AS 'MODULE_PATHNAME', 'soa_schema'
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE ROWS 10;

COMMENT ON FUNCTION soa.schema(regclass) IS
    'the columns of the store behind a foreign table: their types as the store names them, and what they are for it';

CREATE FUNCTION soa.segments(store regclass)
    RETURNS TABLE (path text, row_count bigint, form text, parquet_bytes bigint, arrow_bytes bigint, partition jsonb,
                   deleted_count bigint, min jsonb, max jsonb)
    AS 'MODULE_PATHNAME', 'soa_segments'
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE ROWS 100;

COMMENT ON FUNCTION soa.segments(regclass) IS
    'the segments of the store behind a foreign table: their files, rows, bytes and partitions, and the bounds of their values';

CREATE FUNCTION soa.history(store regclass)
    RETURNS TABLE (version bigint, "timestamp" timestamptz, operation text, engine text, rows_added bigint, rows_deleted bigint,
                   files_added bigint, files_removed bigint)
    AS 'MODULE_PATHNAME', 'soa_history'
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE ROWS 100;

COMMENT ON FUNCTION soa.history(regclass) IS 'the commits of the store behind a foreign table, the oldest first';

CREATE FUNCTION soa.verify(store regclass)
    RETURNS TABLE (problem text)
    AS 'MODULE_PATHNAME', 'soa_verify'
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE ROWS 1 COST 1000000;

COMMENT ON FUNCTION soa.verify(regclass) IS 'what is wrong in the store behind a foreign table; no row: all is well';

CREATE FUNCTION soa.compact(store regclass)
    RETURNS TABLE (version bigint, segments_removed bigint, segments_added bigint, segments_given_up bigint, rows_written bigint,
                   rows_dropped bigint, bytes_removed bigint, bytes_added bigint, arrow_rebuilt bigint, arrow_dropped bigint)
    AS 'MODULE_PATHNAME', 'soa_compact'
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE ROWS 1 COST 1000000;

COMMENT ON FUNCTION soa.compact(regclass) IS
    'joins small segments of the store behind a foreign table and writes half-deleted ones anew';

CREATE FUNCTION soa.vacuum(store regclass, retention interval DEFAULT '7 days', dry_run boolean DEFAULT false,
                           force boolean DEFAULT false)
    RETURNS TABLE (file text, bytes bigint)
    AS 'MODULE_PATHNAME', 'soa_vacuum'
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE ROWS 100 COST 1000000;

COMMENT ON FUNCTION soa.vacuum(regclass, interval, boolean, boolean) IS
    'removes files of the store behind a foreign table that only versions need which were replaced before the retention';
