// Quotes the shipping of a parcel: the zone of the country, the first weight step that fits, and a surcharge for bulk.

@json
class Parcel {
  country: string = "";
  weightGrams: i32 = 0;
  lengthCm: i32 = 0;
  widthCm: i32 = 0;
  heightCm: i32 = 0;
}

@json
class Quote {
  zone: string = "";
  chargedGrams: i32 = 0;
  cents: i32 = 0;
  days: i32 = 0;
}

class Zone {
  constructor(
    public name: string,
    public countries: string[],
    public centsByStep: i32[],
    public days: i32,
  ) {}
}

const STEPS_IN_GRAMS: i32[] = [500, 2000, 5000, 10000, 31500];
const ZONES: Zone[] = [
  new Zone("domestic", ["DE"], [399, 549, 749, 1049, 1949], 2),
  new Zone("europe", ["AT", "BE", "CH", "DK", "ES", "FR", "IT", "NL", "PL", "SE"], [899, 1499, 1799, 2399, 4799], 5),
  new Zone("world", [], [1599, 2799, 4499, 6499, 12999], 12),
];

export function handle(input: string): string {
  const parcel = JSON.parse<Parcel>(input);
  const zone = zoneOf(parcel.country.toUpperCase());
  const quote = new Quote();
  quote.zone = zone.name;
  quote.chargedGrams = max(parcel.weightGrams, volumetricGrams(parcel));
  quote.cents = zone.centsByStep[stepFor(quote.chargedGrams)] + surcharge(parcel);
  quote.days = zone.days;
  return JSON.stringify(quote);
}

function zoneOf(country: string): Zone {
  if (country.length != 2) throw new Error(`country must be a code of two letters, not "${country}"`);
  for (let i = 0; i < ZONES.length; i++) {
    if (ZONES[i].countries.includes(country)) return ZONES[i];
  }
  return ZONES[ZONES.length - 1];
}

function stepFor(grams: i32): i32 {
  if (grams <= 0) throw new Error("weightGrams must be positive");
  for (let i = 0; i < STEPS_IN_GRAMS.length; i++) {
    if (grams <= STEPS_IN_GRAMS[i]) return i;
  }
  throw new Error(`${grams} g are too much for one parcel, the most is ${STEPS_IN_GRAMS[STEPS_IN_GRAMS.length - 1]} g`);
}

/** Light but large parcels are charged by their volume: five litres count as a kilogram. */
function volumetricGrams(parcel: Parcel): i32 {
  return (parcel.lengthCm * parcel.widthCm * parcel.heightCm) / 5;
}

function surcharge(parcel: Parcel): i32 {
  const longest = max(parcel.lengthCm, max(parcel.widthCm, parcel.heightCm));
  return longest > 120 ? 2500 : 0;
}
