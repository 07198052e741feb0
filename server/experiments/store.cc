#include "server/experiments/store.h"

#include <sqlite3.h>

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace vernier {
namespace {

constexpr int kBusyMillis = 2000;  // while somebody queries the file

constexpr char kSchema[] = R"sql(
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS experiment (
  number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, version INTEGER NOT NULL,
  state TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS history (
  number INTEGER NOT NULL, version INTEGER NOT NULL, unix_micros INTEGER NOT NULL,
  state TEXT NOT NULL, reason TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (number, version));
CREATE TABLE IF NOT EXISTS feedback (
  experiment INTEGER NOT NULL, exposure BLOB NOT NULL, metric TEXT NOT NULL, source TEXT NOT NULL,
  value REAL NOT NULL, text TEXT NOT NULL, preferred_over BLOB NOT NULL,
  unix_micros INTEGER NOT NULL, PRIMARY KEY (experiment, exposure, metric, source)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS feedback_key (
  experiment INTEGER NOT NULL, key TEXT NOT NULL, PRIMARY KEY (experiment, key)) WITHOUT ROWID;
)sql";

}  // namespace

// One statement from preparation to its end. A failed step is kept, for Done to tell.
class ExperimentStore::Statement {
 public:
  Statement(ExperimentStore* store, const char* sql) : store_(store) {
    result_ = sqlite3_prepare_v2(store->db_, sql, -1, &statement_, nullptr);
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& Bind(int64_t value) {
    Keep(sqlite3_bind_int64(statement_, ++bound_, value));
    return *this;
  }
  Statement& Bind(double value) {
    Keep(sqlite3_bind_double(statement_, ++bound_, value));
    return *this;
  }
  Statement& Bind(const std::string& text) {
    Keep(sqlite3_bind_text64(statement_, ++bound_, text.data(), text.size(), SQLITE_TRANSIENT,
                             SQLITE_UTF8));
    return *this;
  }
  Statement& BindBlob(absl::string_view bytes) {
    Keep(sqlite3_bind_blob64(statement_, ++bound_, bytes.data(), bytes.size(), SQLITE_TRANSIENT));
    return *this;
  }
  // True while there is a row.
  bool Step() {
    if (result_ == SQLITE_OK || result_ == SQLITE_ROW) result_ = sqlite3_step(statement_);
    return result_ == SQLITE_ROW;
  }
  absl::Status Done(const char* doing) {
    while (Step()) {
    }
    return result_ == SQLITE_DONE ? absl::OkStatus() : store_->Error(doing);
  }

  int64_t Int(int column) { return sqlite3_column_int64(statement_, column); }
  double Double(int column) { return sqlite3_column_double(statement_, column); }
  // Of text or blob.
  absl::string_view Bytes(int column) {
    const void* data = sqlite3_column_blob(statement_, column);
    return {static_cast<const char*>(data),
            data == nullptr ? 0 : static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
  }

 private:
  void Keep(int result) {
    if (result_ == SQLITE_OK) result_ = result;
  }

  ExperimentStore* const store_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
  int result_ = SQLITE_OK;
};

namespace {

absl::string_view BytesOf(const ExposureId& id) {
  return {reinterpret_cast<const char*>(id.data()), id.size()};
}

ExposureId IdOf(absl::string_view bytes) {
  ExposureId id{};
  std::copy_n(bytes.begin(), std::min(bytes.size(), id.size()), id.begin());
  return id;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ExperimentStore>> ExperimentStore::Open(const std::string& path) {
  sqlite3* db = nullptr;
  const int opened =
      sqlite3_open_v2(path.c_str(), &db,
                      SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX, nullptr);
  auto store = std::unique_ptr<ExperimentStore>(new ExperimentStore(path, db));
  if (opened != SQLITE_OK) return store->Error("opening");
  sqlite3_busy_timeout(db, kBusyMillis);
  if (absl::Status status = store->Run(kSchema); !status.ok()) return status;
  return store;
}

ExperimentStore::~ExperimentStore() { sqlite3_close(db_); }

absl::Status ExperimentStore::Error(const char* doing) const {
  return absl::UnavailableError(
      absl::StrCat(path_, ": ", doing, ": ", db_ == nullptr ? "no memory" : sqlite3_errmsg(db_)));
}

absl::Status ExperimentStore::Run(const char* sql) {
  return sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) == SQLITE_OK ? absl::OkStatus()
                                                                        : Error("writing");
}

absl::StatusOr<std::vector<ExperimentStore::Stored>> ExperimentStore::Experiments() {
  std::vector<Stored> out;
  Statement rows(this, "SELECT number, id, body FROM experiment ORDER BY id");
  while (rows.Step()) {
    Stored& stored = out.emplace_back();
    stored.number = static_cast<uint32_t>(rows.Int(0));
    if (!stored.message.ParseFromString(std::string(rows.Bytes(2)))) {
      return absl::DataLossError(
          absl::StrCat(path_, ": the experiment ", rows.Bytes(1), " cannot be read"));
    }
  }
  if (absl::Status status = rows.Done("reading"); !status.ok()) return status;
  return out;
}

absl::StatusOr<uint32_t> ExperimentStore::Save(const v1::Experiment& message, int64_t unix_micros) {
  const std::string body = message.SerializeAsString();
  const std::string state = v1::Experiment::State_Name(message.state());
  const auto version = static_cast<int64_t>(message.version());
  if (absl::Status status = Run("BEGIN IMMEDIATE"); !status.ok()) return status;
  auto undo =
      absl::MakeCleanup([this] { sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr); });
  absl::Status status =
      Statement(this,
                "INSERT INTO experiment (id, version, state, body) VALUES (?, ?, ?, ?) ON CONFLICT "
                "(id) DO UPDATE SET version = excluded.version, state = excluded.state, body = "
                "excluded.body")
          .Bind(message.id())
          .Bind(version)
          .Bind(state)
          .BindBlob(body)
          .Done("writing");
  if (!status.ok()) return status;
  Statement found(this, "SELECT number FROM experiment WHERE id = ?");
  if (!found.Bind(message.id()).Step()) return Error("reading");
  const int64_t number = found.Int(0);
  status = Statement(this, "INSERT OR REPLACE INTO history VALUES (?, ?, ?, ?, ?, ?)")
               .Bind(number)
               .Bind(version)
               .Bind(unix_micros)
               .Bind(state)
               .Bind(message.state_reason())
               .BindBlob(body)
               .Done("writing");
  if (!status.ok()) return status;
  if (status = found.Done("reading"); !status.ok()) return status;
  if (status = Run("COMMIT"); !status.ok()) return status;
  std::move(undo).Cancel();
  return static_cast<uint32_t>(number);
}

absl::StatusOr<FeedbackTaken> ExperimentStore::SaveFeedback(const StoredFeedback& feedback) {
  if (absl::Status status = Run("BEGIN IMMEDIATE"); !status.ok()) return status;
  auto undo =
      absl::MakeCleanup([this] { sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr); });
  if (!feedback.key.empty()) {
    absl::Status status = Statement(this, "INSERT OR IGNORE INTO feedback_key VALUES (?, ?)")
                              .Bind(int64_t{feedback.experiment})
                              .Bind(feedback.key)
                              .Done("writing");
    if (!status.ok()) return status;
    if (sqlite3_changes(db_) == 0) return FeedbackTaken::kDuplicate;
  }
  Statement before(
      this,
      "SELECT 1 FROM feedback WHERE experiment = ? AND exposure = ? AND metric = ? AND "
      "source = ?");
  const bool replaced = before.Bind(int64_t{feedback.experiment})
                            .BindBlob(BytesOf(feedback.exposure))
                            .Bind(feedback.metric)
                            .Bind(feedback.source)
                            .Step();
  absl::Status status = before.Done("reading");
  if (!status.ok()) return status;
  status = Statement(this, "INSERT OR REPLACE INTO feedback VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
               .Bind(int64_t{feedback.experiment})
               .BindBlob(BytesOf(feedback.exposure))
               .Bind(feedback.metric)
               .Bind(feedback.source)
               .Bind(feedback.value)
               .Bind(feedback.text)
               .BindBlob(BytesOf(feedback.over))
               .Bind(feedback.unix_micros)
               .Done("writing");
  if (!status.ok()) return status;
  if (status = Run("COMMIT"); !status.ok()) return status;
  std::move(undo).Cancel();
  return replaced ? FeedbackTaken::kReplaced : FeedbackTaken::kNew;
}

absl::Status ExperimentStore::EachFeedback(
    uint32_t experiment, const std::function<void(const StoredFeedback&)>& feedback) {
  Statement rows(this,
                 "SELECT exposure, metric, source, value, text, preferred_over, unix_micros FROM "
                 "feedback WHERE experiment = ? ORDER BY exposure, metric, source");
  rows.Bind(int64_t{experiment});
  while (rows.Step()) {
    feedback({.experiment = experiment,
              .exposure = IdOf(rows.Bytes(0)),
              .metric = std::string(rows.Bytes(1)),
              .source = std::string(rows.Bytes(2)),
              .value = rows.Double(3),
              .text = std::string(rows.Bytes(4)),
              .over = IdOf(rows.Bytes(5)),
              .unix_micros = rows.Int(6)});
  }
  return rows.Done("reading");
}

}  // namespace vernier
