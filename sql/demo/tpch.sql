-- TPC-H's orders and lineitem at scale factor 1, with the benchmark's own answers as a check, in text that DuckDB and
-- Postgres both understand.

-- # How many orders and line items has TPC-H at scale factor 1?
-- = 1500000 | 6001215
SELECT (SELECT count(*) FROM orders) AS orders, (SELECT count(*) FROM lineitem) AS lineitem;

-- # Query 1, the pricing summary: every line item but those of the last months
-- = A | F | 37734107.00 | 56586554400.73 | 1478493
-- = N | F | 991417.00 | 1487504710.38 | 38854
-- = N | O | 74476040.00 | 111701729697.74 | 2920374
-- = R | F | 37719753.00 | 56568041380.90 | 1478870
SELECT l_returnflag, l_linestatus, sum(l_quantity) AS quantity, sum(l_extendedprice) AS price, count(*) AS lines
FROM lineitem
WHERE l_shipdate <= DATE '1998-12-01' - 90
GROUP BY 1, 2
ORDER BY 1, 2;

-- # Query 4, orders with a line that came late (a semi-join)
-- = 1-URGENT | 10594
-- = 2-HIGH | 10476
-- = 3-MEDIUM | 10410
-- = 4-NOT SPECIFIED | 10556
-- = 5-LOW | 10487
SELECT o_orderpriority, count(*) AS orders
FROM orders
WHERE o_orderdate >= DATE '1993-07-01' AND o_orderdate < DATE '1993-10-01'
  AND EXISTS (SELECT 1 FROM lineitem WHERE l_orderkey = o_orderkey AND l_commitdate < l_receiptdate)
GROUP BY 1
ORDER BY 1;

-- # Query 6, what a small discount brings in (a narrow filter)
-- = 123141078.2283
SELECT sum(l_extendedprice * l_discount) AS revenue
FROM lineitem
WHERE l_shipdate >= DATE '1994-01-01' AND l_shipdate < DATE '1995-01-01'
  AND l_discount BETWEEN 0.05 AND 0.07 AND l_quantity < 24;

-- # Query 12, do the cheaper ways of shipping delay urgent orders? (a join)
-- = MAIL | 6202 | 9324
-- = SHIP | 6200 | 9262
SELECT l_shipmode,
       count(*) FILTER (WHERE o_orderpriority IN ('1-URGENT', '2-HIGH')) AS urgent,
       count(*) FILTER (WHERE o_orderpriority NOT IN ('1-URGENT', '2-HIGH')) AS others
FROM orders
JOIN lineitem ON l_orderkey = o_orderkey
WHERE l_shipmode IN ('MAIL', 'SHIP') AND l_commitdate < l_receiptdate AND l_shipdate < l_commitdate
  AND l_receiptdate >= DATE '1994-01-01' AND l_receiptdate < DATE '1995-01-01'
GROUP BY 1
ORDER BY 1;
