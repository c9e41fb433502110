-- The benchmark's queries on `orders` with texts: 5 million rows in the order of their time, whose columns are text,
-- text that may be NULL, an enum, decimals and times. Titles are as in orders.sql.

-- # count of not null
SELECT count(*), count(gift_note), count(quantity), count(shipped_at) FROM orders;

-- # top 10 customers by name
SELECT customer, count(*), sum(price) AS spent FROM orders GROUP BY customer ORDER BY spent DESC, customer LIMIT 10;

-- # prefix of a name
SELECT count(*), sum(price) FROM orders WHERE customer LIKE 'Ada L%';

-- # text contains
SELECT count(*) FROM orders WHERE note LIKE '%the green door%';

-- # text that may be NULL contains
SELECT count(*), min(order_id) FROM orders WHERE gift_note LIKE '%birthday%';

-- # equality on a long text
SELECT order_id, customer, price FROM orders
WHERE note = 'Please put it behind the green door and ring the bell twice, it is order number 3456789';

-- # group by currency
SELECT currency, count(*), sum(price), avg(quantity) FROM orders GROUP BY currency ORDER BY currency;

-- # sum of decimals
SELECT sum(price), min(price), max(price) FROM orders;

-- # filter on a currency and a price
SELECT count(*), sum(price) FROM orders WHERE currency IN ('CHF', 'GBP') AND price > 900.00;

-- # filter on what may be NULL
SELECT count(*), sum(price) FROM orders WHERE quantity > 7 AND gift_note IS NULL;

-- # orders on the way for long
SELECT count(*), max(shipped_at) FROM orders WHERE shipped_at > ordered_at + INTERVAL '6 days';

-- # smallest and greatest texts
SELECT min(customer), max(customer), min(note), max(note), min(gift_note), max(gift_note) FROM orders;

-- # lengths of texts
SELECT sum(length(customer)), sum(length(note)), sum(length(gift_note)) FROM orders;

-- # distinct names
SELECT count(DISTINCT customer) FROM orders;

-- # names in capitals
SELECT count(*), max(concat(upper(customer), ' / ', currency)) FROM orders WHERE upper(customer) LIKE '%LOVELACE%';
