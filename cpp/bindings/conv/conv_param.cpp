#include "conv_param.hpp"

#include <string>
#include <string_view>

#include "../arrays.hpp"

namespace cnnlib {
namespace {

constexpr Index limit = Index{1} << 31;  // of a step or a padding
constexpr const char* keys[] = {"stride", "pad",       "dilation",
                                "groups", "algorithm", "output_pad"};  // the last if transposed
enum Key { stride, pad, dilation, groups, algorithm, output_pad, key_count };

std::string shown(py::handle value) { return py::repr(value).cast<std::string>(); }

// Python's strings for the keys, made once.
PyObject* key_string(int key) {
  static const std::array<PyObject*, key_count> strings = [] {
    std::array<PyObject*, key_count> made{};
    for (int i = 0; i < key_count; ++i) made[i] = PyUnicode_InternFromString(keys[i]);
    return made;
  }();
  return strings[key];
}

// Python's, or NumPy's, which counts as an integer up to NumPy 1.
bool is_bool(py::handle value) {
  constexpr std::string_view numpys = "numpy.bool";  // and an underscore, up to NumPy 1
  return PyBool_Check(value.ptr()) ||
         std::string_view(Py_TYPE(value.ptr())->tp_name).substr(0, numpys.size()) == numpys;
}

// An int, or what counts as one, as NumPy's integers do; no bool.
Index read_integer(Text function, const char* key, py::handle value) {
  int overflow = 0;
  const auto wrong_type = [&] {
    return py::type_error(message_of(function, ": ", key, " must be an integer, got ", shown(value)));
  };
  py::object number;  // where it is no int
  if (!PyLong_CheckExact(value.ptr())) {
    if (is_bool(value)) throw wrong_type();
    number = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
    if (!number) {
      if (PyErr_ExceptionMatches(PyExc_TypeError) == 0) throw py::error_already_set();
      PyErr_Clear();
      throw wrong_type();
    }
    value = number;
  }
  const long long read = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
  if (overflow != 0 || read <= -limit || read >= limit)
    refuse(function, ": ", key, " must be smaller than ", limit, ", got ",
           py::str(value).cast<std::string>());
  return static_cast<Index>(read);
}

bool is_sequence(py::handle value) {
  if (PyLong_CheckExact(value.ptr())) return false;  // most calls
  if (PyTuple_Check(value.ptr()) || PyList_Check(value.ptr())) return true;
  return py::isinstance<py::array>(value) && py::reinterpret_borrow<py::array>(value).ndim() > 0;
}

// The two items of a sequence as numbers, by read(item). It is held meanwhile: a list may change. `key` must
// be what is `expected`.
template <class Read>
auto read_two(Text function, const char* key, const char* expected, py::handle value, const Read& read) {
  const auto items = py::reinterpret_steal<py::object>(PySequence_Tuple(value.ptr()));
  if (!items) throw py::error_already_set();
  if (PyTuple_GET_SIZE(items.ptr()) != 2)
    refuse(function, ": ", key, " must be ", expected, ", got ", shown(value));
  const auto first = read(PyTuple_GET_ITEM(items.ptr(), 0));
  return std::array{first, read(PyTuple_GET_ITEM(items.ptr(), 1))};
}

// An int for both axes, or (vertical, horizontal).
std::array<Index, 2> read_pair(Text function, const char* key, py::handle value) {
  const auto read = [&](py::handle item) { return read_integer(function, key, item); };
  if (is_sequence(value)) return read_two(function, key, "an integer or (vertical, horizontal)", value, read);
  const Index both = read(value);
  return {both, both};
}

void read_pad(Text function, py::handle value, Direction direction, ConvParam& to) {
  if (PyUnicode_Check(value.ptr())) {
    const auto is = [&](const char* name) {
      return PyUnicode_CompareWithASCIIString(value.ptr(), name) == 0;
    };
    to.same = is("same") && direction == Direction::forward;
    if (to.same || is("valid")) return;
    refuse(function, ": pad must be an integer, a pair, two pairs, ",
           direction == Direction::forward ? "'same' or 'valid'" : "'valid' ('same' is not defined here)",
           ", got ", shown(value));
  }
  if (!is_sequence(value)) {
    to.pad.fill(read_integer(function, "pad", value));
    return;
  }
  const auto [vertical, horizontal] =
      read_two(function, "pad", "an integer, (vertical, horizontal) or ((top, bottom), (left, right))", value,
               [&](py::handle item) { return read_pair(function, "pad", item); });
  to.pad = {vertical[0], vertical[1], horizontal[0], horizontal[1]};
}

// Refuses all but mappings with known keys, in the words that every layer uses.
void check_keys(std::string_view function, py::handle param, int known_count) {
  py::tuple known(known_count);
  for (int i = 0; i < known_count; ++i) known[i] = py::reinterpret_borrow<py::object>(key_string(i));
  py::module_::import("cnnlib._params").attr("check_keys")(function, "conv_param", param, known);
}

// The value of a key of a dict, held by the result, which is null where there is none.
py::object dict_value(py::handle dict, PyObject* key) {
#if PY_VERSION_HEX >= 0x030D0000
  PyObject* value = nullptr;
  if (PyDict_GetItemRef(dict.ptr(), key, &value) < 0) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(value);
#else
  PyObject* value = PyDict_GetItemWithError(dict.ptr(), key);
  if (value == nullptr && PyErr_Occurred() != nullptr) throw py::error_already_set();
  return py::reinterpret_borrow<py::object>(value);
#endif
}

}  // namespace

ConvParam parse_conv_param(Text function, py::handle param, Direction direction) {
  const int known_count = direction == Direction::transposed ? key_count : key_count - 1;
  const bool plain = PyDict_CheckExact(param.ptr());
  if (!plain) check_keys(function, param, known_count);
  const py::dict dict(py::reinterpret_borrow<py::object>(param));
  std::array<py::object, key_count> values;
  Py_ssize_t unknown = PyDict_GET_SIZE(dict.ptr());
  for (int key = 0; key < known_count && unknown > 0; ++key) {
    values[key] = dict_value(dict, key_string(key));
    if (values[key]) --unknown;
  }
  if (plain && unknown > 0) check_keys(function, param, known_count);
  ConvParam read;
  if (values[stride]) read.stride = read_pair(function, "stride", values[stride]);
  if (values[dilation]) read.dilation = read_pair(function, "dilation", values[dilation]);
  if (values[pad]) read_pad(function, values[pad], direction, read);
  if (values[groups]) read.groups = read_integer(function, "groups", values[groups]);
  if (values[algorithm]) read.algorithm = algorithm_named(function, "algorithm", values[algorithm]);
  if (values[output_pad]) read.output_pad = read_pair(function, "output_pad", values[output_pad]);
  return read;
}

void settle_steps(Text function, ConvParam& param, const std::array<Index, 2>& size,
                  const std::array<Index, 2>& kernel) {
  const auto at_least = [&](const char* key, Index value, Index least) {
    require(value >= least, function, ": ", key, " must be between ", least, " and 2**31 - 1, got ", value);
  };
  for (const Index value : param.stride) at_least("stride", value, 1);
  for (const Index value : param.pad) at_least("pad", value, 0);
  for (const Index value : param.dilation) at_least("dilation", value, 1);
  at_least("groups", param.groups, 1);
  for (int axis = 0; param.same && axis < 2; ++axis) {
    const Index step = param.stride[axis], outputs = (size[axis] - 1) / step + 1;
    const Index window = std::min(window_size(kernel[axis], param.dilation[axis]), largest);
    const Index total = std::max<Index>(0, (outputs - 1) * step + window - size[axis]);
    param.pad[2 * axis] = total / 2;
    param.pad[2 * axis + 1] = total - total / 2;
  }
}

Index window_size(Index kernel, Index dilation) {
  Index reach;
  return __builtin_mul_overflow(dilation, kernel - 1, &reach) || reach > largest ? PTRDIFF_MAX : reach + 1;
}

Method algorithm_named(Text function, const char* key, py::handle name) {
  if (!PyUnicode_Check(name.ptr()))
    throw py::type_error(message_of(function, ": ", key, " must be a string, got ", shown(name)));
  std::string known;
  for (int i = 0; i < static_cast<int>(Method::count); ++i) {
    if (PyUnicode_CompareWithASCIIString(name.ptr(), method_names[i]) == 0) return static_cast<Method>(i);
    known += std::string(i > 0 ? ", '" : "'") + method_names[i] + "'";
  }
  refuse(function, ": ", key, " must be one of ", known, ", got ", shown(name));
}

const char* name_of(Method algorithm) { return method_names[static_cast<int>(algorithm)]; }

}  // namespace cnnlib
