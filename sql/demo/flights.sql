-- The flights that left New York in 2013: five stores, imported from CSV, joined in place.
-- DuckDB and Postgres run this text. A block is a title (`-- #`), the rows it must give (`-- =`, if they are known
-- beforehand), and SQL: one or several statements, the last of them a query.

-- # How many flights, planes, airports, airlines and hours of weather are there?
-- = 336776 | 3322 | 1458 | 16 | 26115
SELECT (SELECT count(*) FROM flights) AS flights,
       (SELECT count(*) FROM planes) AS planes,
       (SELECT count(*) FROM airports) AS airports,
       (SELECT count(*) FROM airlines) AS airlines,
       (SELECT count(*) FROM weather) AS weather;

-- # Which airlines fly most, and how late do they arrive? (flights joined with airlines)
SELECT a.name, count(*) AS flights, round(avg(f.arr_delay), 1) AS minutes_late,
       count(*) FILTER (WHERE f.dep_time IS NULL) AS never_left
FROM flights AS f
JOIN airlines AS a ON a.carrier = f.carrier
GROUP BY a.name
ORDER BY flights DESC, a.name
LIMIT 5;

-- # Where do they go, and how far is it? (joined with airports; the filter is on the partition column)
SELECT p.name AS airport, count(*) AS flights, max(f.distance) AS miles
FROM flights AS f
JOIN airports AS p ON p.faa = f.dest
WHERE f.origin = 'JFK'
GROUP BY p.name
ORDER BY flights DESC, airport
LIMIT 5;

-- # Do old planes run late? (joined with planes)
SELECT p.year - p.year % 10 AS decade, count(*) AS flights, round(avg(f.dep_delay), 1) AS minutes_late
FROM flights AS f
JOIN planes AS p ON p.tailnum = f.tailnum
WHERE p.year IS NOT NULL
GROUP BY decade
ORDER BY decade;

-- # Does rain make them late? (joined with the weather at the same airport in the same hour)
SELECT CASE WHEN w.precip > 0.1 THEN 'heavy rain' WHEN w.precip > 0 THEN 'rain' ELSE 'dry' END AS weather,
       count(*) AS flights, round(avg(f.dep_delay), 1) AS minutes_late
FROM flights AS f
JOIN weather AS w ON w.origin = f.origin AND w.time_hour = f.time_hour
GROUP BY 1
ORDER BY minutes_late;

-- # All five at once: the latest arrivals by plane, airline, airport and wind
SELECT f.month, f.day, a.name AS airline, d.name AS destination, p.model, round(w.wind_speed) AS wind, f.arr_delay
FROM flights AS f
JOIN airlines AS a ON a.carrier = f.carrier
JOIN airports AS d ON d.faa = f.dest
JOIN planes AS p ON p.tailnum = f.tailnum
JOIN weather AS w ON w.origin = f.origin AND w.time_hour = f.time_hour
ORDER BY f.arr_delay DESC NULLS LAST
LIMIT 5;
