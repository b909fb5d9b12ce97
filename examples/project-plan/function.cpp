// Plans a project: when each task can begin at the earliest, how much it may slip, and which tasks decide when all is done.

#include <algorithm>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

using nlohmann::json;

namespace {

struct Task {
  int days = 0;
  std::vector<std::string> after;
  std::vector<std::string> before; // the tasks that wait for this one
  int start = 0;
  int latest = std::numeric_limits<int>::max();
};

using Tasks = std::map<std::string, Task>;

Tasks read_tasks(const json &list) {
  Tasks tasks;
  for (const auto &one : list) {
    tasks[one.at("name")] = {.days = one.at("days"), .after = one.value("after", std::vector<std::string>{})};
  }
  for (auto &[name, task] : tasks) {
    for (const auto &first : task.after) {
      auto found = tasks.find(first);
      if (found == tasks.end()) kiln_fail((name + " waits for " + first + ", which is no task").c_str());
      found->second.before.push_back(name);
    }
  }
  return tasks;
}

// Kahn's algorithm: a task is ready once all that it waits for are done.
std::vector<std::string> in_order(const Tasks &tasks) {
  std::map<std::string, std::size_t> waiting;
  std::vector<std::string> order;
  for (const auto &[name, task] : tasks) {
    waiting[name] = task.after.size();
    if (task.after.empty()) order.push_back(name);
  }
  for (std::size_t next = 0; next < order.size(); next++) {
    const auto &done = tasks.at(order[next]);
    for (const auto &name : done.before) {
      if (--waiting[name] == 0) order.push_back(name);
    }
  }
  if (order.size() < tasks.size()) kiln_fail("some tasks wait for each other");
  return order;
}

} // namespace

std::string handle(std::string_view input) {
  auto tasks = read_tasks(json::parse(input).at("tasks"));
  auto order = in_order(tasks);
  int days = 0;
  for (const auto &name : order) {
    auto &task = tasks.at(name);
    for (const auto &first : task.after) task.start = std::max(task.start, tasks.at(first).start + tasks.at(first).days);
    days = std::max(days, task.start + task.days);
  }
  json answer = {{"days", days}, {"tasks", json::array()}, {"critical", json::array()}};
  for (auto name = order.rbegin(); name != order.rend(); ++name) {
    auto &task = tasks.at(*name);
    task.latest = days - task.days;
    for (const auto &next : task.before) task.latest = std::min(task.latest, tasks.at(next).latest - task.days);
  }
  for (const auto &name : order) {
    const auto &task = tasks.at(name);
    answer["tasks"].push_back({{"name", name}, {"start", task.start}, {"slack", task.latest - task.start}});
    if (task.latest == task.start) answer["critical"].push_back(name);
  }
  return answer.dump();
}
