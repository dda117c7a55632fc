// SPDX-License-Identifier: Apache-2.0

// Empty: see ../go.mod.
module github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common

go 1.26.0
