-- The benchmark's queries on `orders` in 1,000 segments of 1,000 rows, a commit each. Titles are as in orders.sql.

-- # count [pruned, aggregate, 5 ms]
SELECT count(*) FROM orders;

-- # one key [pruned, 5 ms]
SELECT * FROM orders WHERE order_id = 654321;

-- # a key that is not there [pruned, 5 ms]
SELECT * FROM orders WHERE order_id = 7654321;

-- # time range [pruned, aggregate]
SELECT count(*), sum(total_amount) FROM orders
WHERE ordered_at >= TIMESTAMPTZ '2023-01-10 00:00:00+00' AND ordered_at < TIMESTAMPTZ '2023-01-10 06:00:00+00';

-- # sum [scan, aggregate]
SELECT sum(total_amount) FROM orders;

-- # group by an enum [scan, aggregate]
SELECT status, count(*), sum(total_amount) FROM orders GROUP BY status ORDER BY status;
