-- A table of the engine's own (in Postgres a heap table) joined with two stores. DuckDB and Postgres run this text.

-- # Who breaks the promise to be no later than so many minutes?
-- = Alaska Airlines Inc. | 5 | 714 | 157
-- = Delta Air Lines Inc. | 15 | 48110 | 8690
-- = Hawaiian Airlines Inc. | 0 | 342 | 97
-- = Virgin America | 10 | 5162 | 1123
CREATE TABLE promises (carrier text PRIMARY KEY, minutes integer);
INSERT INTO promises VALUES ('AS', 5), ('DL', 15), ('HA', 0), ('VX', 10);
SELECT a.name, p.minutes, count(*) AS flights, count(*) FILTER (WHERE f.arr_delay > p.minutes) AS broken
FROM promises AS p
JOIN flights AS f ON f.carrier = p.carrier
JOIN airlines AS a ON a.carrier = p.carrier
GROUP BY a.name, p.minutes
ORDER BY a.name;
