// A template as a tree: what the parser makes and the evaluator walks.
//
// Immutable once parsed. No deeper than Limits::nesting and its statements' own depth allow, so
// that a walk, and the tree's end, may recurse.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/text/jinja/operators.h"
#include "engine/text/jinja/value.h"

namespace vernier::jinja {

struct FilterRow;
struct TestRow;
struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Argument {
  // kItems and kEntries unpack what *value and **value hold.
  enum class Kind : uint8_t { kPositional, kNamed, kItems, kEntries };
  Kind kind = Kind::kPositional;
  std::string name;  // of kNamed
  ExpressionPtr value;
};

struct Expression {
  enum class Kind : uint8_t {
    kConstant,
    kName,
    kList,
    kTuple,
    kDict,  // keys and values in turn
    kNot,
    kNegative,
    kPositive,
    kArithmetic,  // two
    kAnd,
    kOr,
    kCompare,      // a chain: one more than operators
    kConcat,       // of texts, two or more
    kConditional,  // value, condition, and perhaps the other value
    kAttribute,    // .name
    kSubscript,    // [index]
    kSlice,        // value, begin, end, step; null: left out
    kCall,
    kFilter,  // null child: the text of a filter block
    kTest,
  };
  Kind kind = Kind::kConstant;
  int line = 1;
  int depth = 1;  // 1 + that of the deepest child
  Value constant;
  std::string name;  // of the variable, attribute, filter or test
  std::vector<ExpressionPtr> children;
  std::vector<Operator> operators;
  std::vector<Argument> arguments;
  const FilterRow* filter = nullptr;  // null: there is none of this name, an error when it is met
  const TestRow* test = nullptr;
};

struct Statement;
using Body = std::vector<std::unique_ptr<Statement>>;

struct Parameter {
  std::string name;
  ExpressionPtr otherwise;  // null: undefined
};

struct Statement {
  enum class Kind : uint8_t {
    kText,
    kOutput,    // expressions
    kIf,        // expressions[i] guards bodies[i]; one body more is the else
    kFor,       // expressions: what, and perhaps the condition; bodies: loop, else
    kSet,       // target = expressions[0]
    kSetBlock,  // target = bodies[0], through expressions[0], a filter, if there
    kMacro,
    kCallBlock,  // expressions[0] is a call; the rest as a macro named caller
    kFilterBlock,
    kWith,   // targets and expressions in pairs
    kScope,  // {% generation %}
    kBreak,
    kContinue,
  };
  Kind kind = Kind::kText;
  int line = 1;
  String text;                         // of kText
  std::string name;                    // of kMacro
  std::vector<ExpressionPtr> targets;  // names, tuples of targets, attributes of namespaces
  std::vector<ExpressionPtr> expressions;
  std::vector<Body> bodies;
  std::vector<Parameter> parameters;
  bool takes_more = false;  // the macro's body speaks of varargs or kwargs
};

}  // namespace vernier::jinja
