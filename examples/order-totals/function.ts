// Adds up an order: lines, a discount in percent, tax by category. Money is in whole cents, so that nothing is lost in fractions.

@json
class Item {
  sku: string = "";
  quantity: i32 = 1;
  unitCents: i64 = 0;
  taxCategory: string = "standard";
}

@json
class Order {
  currency: string = "EUR";
  discountPercent: f64 = 0;
  items: Item[] = [];
}

@json
class Line {
  sku: string = "";
  netCents: i64 = 0;
  taxCents: i64 = 0;
}

@json
class Totals {
  currency: string = "";
  lines: Line[] = [];
  netCents: i64 = 0;
  discountCents: i64 = 0;
  taxCents: i64 = 0;
  totalCents: i64 = 0;
}

export function handle(input: string): string {
  const order = JSON.parse<Order>(input);
  if (order.discountPercent < 0 || order.discountPercent > 100) {
    throw new Error(`discountPercent must be between 0 and 100, not ${order.discountPercent}`);
  }
  const totals = new Totals();
  totals.currency = order.currency;
  for (let i = 0; i < order.items.length; i++) add(totals, order.items[i], order.discountPercent);
  totals.totalCents = totals.netCents - totals.discountCents + totals.taxCents;
  return JSON.stringify(totals);
}

function add(totals: Totals, item: Item, discountPercent: f64): void {
  if (item.quantity < 1) throw new Error(`${item.sku}: quantity must be at least 1`);
  const line = new Line();
  line.sku = item.sku;
  line.netCents = item.unitCents * item.quantity;
  const discount = percentOf(line.netCents, discountPercent);
  line.taxCents = percentOf(line.netCents - discount, taxRate(item.taxCategory));
  totals.lines.push(line);
  totals.netCents += line.netCents;
  totals.discountCents += discount;
  totals.taxCents += line.taxCents;
}

function taxRate(category: string): f64 {
  if (category == "standard") return 19;
  if (category == "reduced") return 7;
  if (category == "exempt") return 0;
  throw new Error(`unknown tax category ${category}`);
}

/** Rounded half up, to a cent. */
function percentOf(cents: i64, percent: f64): i64 {
  return <i64>Math.floor((<f64>cents * percent) / 100 + 0.5);
}
