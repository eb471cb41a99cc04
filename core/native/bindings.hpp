// What each file of bindings adds to core._native.
#pragma once

#include <nanobind/nanobind.h>

namespace veloz {

void bind_cells(nanobind::module_ &module);
void bind_disk(nanobind::module_ &module);
void bind_journal(nanobind::module_ &module);
void bind_plain(nanobind::module_ &module);
void bind_risk(nanobind::module_ &module);
void bind_wire(nanobind::module_ &module);
void bind_text(nanobind::module_ &module);

}  // namespace veloz
