// Finds the shortest way between two places over roads that go both ways, by Dijkstra's algorithm.

#include <json.h>

enum { MOST_PLACES = 500 };

typedef struct {
  const char *name;
  double distance; // from the start, INFINITY while unknown
  int previous;    // the place before it on the shortest way, -1 for none
  bool settled;
} Place;

static Place places[MOST_PLACES];
static int count;

// The number of a place, which it gets when it is first named.
static int place(const char *name) {
  for (int i = 0; i < count; i++) {
    if (strcmp(places[i].name, name) == 0) return i;
  }
  if (count == MOST_PLACES) kiln_fail("there are more than 500 places");
  places[count] = (Place){.name = name, .distance = INFINITY, .previous = -1};
  return count++;
}

static int nearest_unsettled(void) {
  int nearest = -1;
  for (int i = 0; i < count; i++) {
    bool reached = !places[i].settled && places[i].distance < INFINITY;
    if (reached && (nearest < 0 || places[i].distance < places[nearest].distance)) nearest = i;
  }
  return nearest;
}

static void shorten(int from, int to, double length) {
  if (length < 0) kiln_fail("a road cannot be shorter than nothing");
  if (places[from].distance + length >= places[to].distance) return;
  places[to].distance = places[from].distance + length;
  places[to].previous = from;
}

static void push_way(json *way, int to) {
  if (to < 0) return;
  push_way(way, places[to].previous);
  json_push(way, json_from_string(places[to].name));
}

char *handle(const char *input) {
  json *request = json_parse(input);
  json *roads = json_get(request, "roads");
  int from = place(json_string(json_get(request, "from")));
  int to = place(json_string(json_get(request, "to")));

  places[from].distance = 0;
  json_each(road, roads) {
    place(json_string(json_at(road.value, 0)));
    place(json_string(json_at(road.value, 1)));
  }
  for (int here; (here = nearest_unsettled()) >= 0 && here != to;) {
    places[here].settled = true;
    json_each(road, roads) {
      int one = place(json_string(json_at(road.value, 0))), other = place(json_string(json_at(road.value, 1)));
      double length = json_number(json_at(road.value, 2));
      if (one == here) shorten(here, other, length);
      if (other == here) shorten(here, one, length);
    }
  }

  json *answer = json_object();
  bool reached = places[to].distance < INFINITY;
  json_set(answer, "distance", reached ? json_from_number(places[to].distance) : json_null());
  json *way = json_set(answer, "way", json_array());
  if (reached) push_way(way, to);
  return json_write(answer);
}
