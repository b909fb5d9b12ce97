// Counts the words of a text: how many, how many different ones, their mean length, and the most frequent.

@json
class Request {
  text: string = "";
  top: i32 = 10;
}

@json
class Count {
  word: string = "";
  count: i32 = 0;
}

@json
class Statistics {
  words: i32 = 0;
  distinct: i32 = 0;
  meanLength: f64 = 0;
  longest: string = "";
  top: Count[] = [];
}

export function handle(input: string): string {
  const request = JSON.parse<Request>(input);
  const words = split(request.text.toLowerCase());
  const statistics = new Statistics();
  statistics.words = words.length;
  let letters = 0;
  for (let i = 0; i < words.length; i++) {
    letters += words[i].length;
    if (words[i].length > statistics.longest.length) statistics.longest = words[i];
  }
  if (words.length > 0) statistics.meanLength = Math.round((<f64>letters / words.length) * 100) / 100;
  const counts = count(words);
  statistics.distinct = counts.length;
  counts.sort((a, b) => (a.count != b.count ? b.count - a.count : a.word < b.word ? -1 : 1));
  statistics.top = counts.slice(0, request.top);
  return JSON.stringify(statistics);
}

function count(words: string[]): Count[] {
  const byWord = new Map<string, Count>();
  for (let i = 0; i < words.length; i++) {
    if (!byWord.has(words[i])) {
      const fresh = new Count();
      fresh.word = words[i];
      byWord.set(words[i], fresh);
    }
    byWord.get(words[i]).count++;
  }
  return byWord.values();
}

/** Letters of any script belong to a word, and so do apostrophes inside it. */
function split(text: string): string[] {
  const words: string[] = [];
  let start = -1;
  for (let i = 0; i <= text.length; i++) {
    const inside = i < text.length && (isLetter(text.charCodeAt(i)) || (start >= 0 && isApostrophe(text, i)));
    if (inside && start < 0) start = i;
    if (!inside && start >= 0) {
      words.push(text.substring(start, i));
      start = -1;
    }
  }
  return words;
}

function isApostrophe(text: string, at: i32): bool {
  return text.charCodeAt(at) == 0x27 && at + 1 < text.length && isLetter(text.charCodeAt(at + 1));
}

function isLetter(code: i32): bool {
  if (code < 0x80) return (code >= 0x61 && code <= 0x7a) || (code >= 0x30 && code <= 0x39);
  // General punctuation, with its dashes and typographic quotes, begins at U+2000.
  return code >= 0xc0 && (code < 0x2000 || code > 0x206f) && code != 0xd7 && code != 0xf7;
}
