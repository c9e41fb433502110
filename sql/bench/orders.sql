-- The benchmark's queries on `orders`: 10 million rows in the order of their time. DuckDB and Postgres run this text.
-- `-- #` begins a query: its name and, in brackets, what is to be known of it:
--   its kind: `scan` reads whole columns, `pruned` finds few rows, `top-n` keeps few whole rows;
--   `aggregate` or `order`: what Postgres could leave to the store beside the filter;
--   `5 ms`: how fast Postgres must answer it from the store.

-- # count [scan, aggregate]
SELECT count(*) FROM orders;

-- # sum [scan, aggregate]
SELECT sum(total_amount) FROM orders;

-- # group by an enum [scan, aggregate]
SELECT status, count(*), sum(total_amount) FROM orders GROUP BY status ORDER BY status;

-- # top 10 customers [scan, aggregate]
SELECT customer_id, sum(total_amount) AS amount FROM orders GROUP BY customer_id ORDER BY amount DESC, customer_id LIMIT 10;

-- # filter on two columns [scan, aggregate]
SELECT count(*), sum(total_amount) FROM orders WHERE quantity >= 8 AND unit_price < 50;

-- # filter with IN [scan, aggregate]
SELECT count(*), sum(quantity) FROM orders WHERE product_id IN (3, 14, 159, 2653, 4999);

-- # time range [pruned, aggregate, 10 ms]
SELECT count(*), sum(total_amount) FROM orders
WHERE ordered_at >= TIMESTAMPTZ '2023-06-01 00:00:00+00' AND ordered_at < TIMESTAMPTZ '2023-06-02 00:00:00+00';

-- # one key [pruned, 5 ms]
SELECT * FROM orders WHERE order_id = 7654321;

-- # all columns [scan, aggregate]
SELECT sum(order_id), sum(customer_id), sum(product_id), sum(quantity), sum(unit_price), sum(total_amount),
       sum(length(status)), sum(length(payment_method)), max(ordered_at), max(updated_at)
FROM orders;

-- # top 10 rows [top-n, order]
SELECT * FROM orders ORDER BY total_amount DESC, order_id LIMIT 10;

-- # count distinct [scan, aggregate]
SELECT count(DISTINCT customer_id) FROM orders;

-- # string filter and group [scan, aggregate]
SELECT payment_method, count(*), avg(quantity) FROM orders WHERE status = 'Shipped' GROUP BY payment_method ORDER BY payment_method;
