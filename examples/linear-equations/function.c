// Solves a system of linear equations by Gaussian elimination, and tells how far the solution is off.

#include <json.h>

enum { MOST_UNKNOWNS = 100 };

static double rows[MOST_UNKNOWNS][MOST_UNKNOWNS + 1]; // the last column is the right-hand side

static size_t read_rows(const json *equations) {
  size_t unknowns = json_length(equations);
  if (unknowns > MOST_UNKNOWNS) kiln_fail("there are more than 100 equations");
  json_each(equation, equations) {
    const json *coefficients = json_get(equation.value, "coefficients");
    if (json_length(coefficients) != unknowns) kiln_fail("there must be as many coefficients in each equation as there are equations");
    json_each(coefficient, coefficients) rows[equation.index][coefficient.index] = json_number(coefficient.value);
    rows[equation.index][unknowns] = json_number(json_get(equation.value, "equals"));
  }
  return unknowns;
}

// Brings the row to the top whose coefficient in this column is largest: dividing by a small one would multiply the errors.
static void pivot(size_t column, size_t unknowns) {
  size_t best = column;
  for (size_t row = column + 1; row < unknowns; row++) {
    if (fabs(rows[row][column]) > fabs(rows[best][column])) best = row;
  }
  if (fabs(rows[best][column]) < 1e-12) kiln_fail("the equations have no solution, or more than one");
  for (size_t i = 0; i <= unknowns; i++) {
    double kept = rows[best][i];
    rows[best][i] = rows[column][i];
    rows[column][i] = kept;
  }
}

static void eliminate(size_t column, size_t unknowns) {
  for (size_t row = 0; row < unknowns; row++) {
    if (row == column) continue;
    double factor = rows[row][column] / rows[column][column];
    for (size_t i = column; i <= unknowns; i++) rows[row][i] -= factor * rows[column][i];
  }
}

static double error_of(const json *equation, const json *solution) {
  double sum = -json_number(json_get(equation, "equals"));
  json_each(coefficient, json_get(equation, "coefficients")) {
    sum += json_number(coefficient.value) * json_number(json_at(solution, coefficient.index));
  }
  return fabs(sum);
}

char *handle(const char *input) {
  json *equations = json_get(json_parse(input), "equations");
  size_t unknowns = read_rows(equations);
  for (size_t column = 0; column < unknowns; column++) {
    pivot(column, unknowns);
    eliminate(column, unknowns);
  }

  json *answer = json_object();
  json *solution = json_set(answer, "solution", json_array());
  for (size_t i = 0; i < unknowns; i++) json_push(solution, json_from_number(rows[i][unknowns] / rows[i][i]));
  double error = 0;
  json_each(equation, equations) error = fmax(error, error_of(equation.value, solution));
  json_set(answer, "exact", json_from_bool(error < 1e-9));
  return json_write(answer);
}
