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

COMMENT ON FOREIGN DATA WRAPPER soa_fdw IS 'reads SoA stores in place';
