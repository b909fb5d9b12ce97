// Finds the words of a list that are nearest to a misspelled one, by edit distance.

@json
class Request {
  query: string = "";
  words: string[] = [];
  maxDistance: i32 = 2;
  limit: i32 = 5;
}

@json
class Match {
  word: string = "";
  distance: i32 = 0;
}

export function handle(input: string): string {
  const request = JSON.parse<Request>(input);
  const query = request.query.toLowerCase();
  const matches: Match[] = [];
  for (let i = 0; i < request.words.length; i++) {
    const distance = levenshtein(query, request.words[i].toLowerCase());
    if (distance > request.maxDistance) continue;
    const match = new Match();
    match.word = request.words[i];
    match.distance = distance;
    matches.push(match);
  }
  matches.sort((a, b) => (a.distance != b.distance ? a.distance - b.distance : a.word < b.word ? -1 : a.word > b.word ? 1 : 0));
  return JSON.stringify(matches.slice(0, request.limit));
}

/** The fewest insertions, deletions and replacements that turn `a` into `b`; two rows of the table are enough. */
function levenshtein(a: string, b: string): i32 {
  let previous = new StaticArray<i32>(b.length + 1);
  let current = new StaticArray<i32>(b.length + 1);
  for (let j = 0; j <= b.length; j++) previous[j] = j;
  for (let i = 1; i <= a.length; i++) {
    current[0] = i;
    for (let j = 1; j <= b.length; j++) {
      const replace = previous[j - 1] + (a.charCodeAt(i - 1) == b.charCodeAt(j - 1) ? 0 : 1);
      current[j] = min(replace, min(previous[j], current[j - 1]) + 1);
    }
    const done = previous;
    previous = current;
    current = done;
  }
  return previous[b.length];
}
